"""Joins the scripts of a page into one file: a host that answers one request at a time costs a round trip per file.

The scripts are modules of a plain style that `joined` checks: imports are lines at the top, and what is exported is a function
or a constant. Every module becomes a block with names of its own, in an order in which each follows those that it imports.
"""

import posixpath
import re
from collections.abc import Mapping

IMPORT = re.compile(
    r"^import (?:(?P<some>\{(?![^}]* as )[ \w,]+\})|\* as (?P<all>\w+)|(?P<default>\w+)) from '(?P<path>\.[./\w]+)';$",
    re.MULTILINE,
)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const) (?P<name>\w+))", re.MULTILINE)
DEFAULT = re.compile(r"^export default (?=function \()", re.MULTILINE)
REST = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


def joined(files: Mapping[str, bytes], entry: str) -> bytes:
    r"""Return a module that does what another one does, without importing any.

    Requires:
        No module imports itself in a circle, or changes a value that it exports.

    Args:
        files: Path -> content, of all modules; paths within a site.
        entry: Path of the module that starts the page. The joined one must lie in the same folder, because modules may ask
            for their own address.

    Raises:
        ValueError: A module has an import or export of another form.

    Example:
        >>> files = {"a.js": b"export const one = 1;\n", "b.js": b"import { one } from './a.js';\nconsole.log(one);\n"}
        >>> print(joined(files, "b.js").decode())
        const modules = {};
        { // a.js
        const one = 1;
        modules['a.js'] = { one };
        }
        { // b.js
        const { one } = modules['a.js'];
        console.log(one);
        modules['b.js'] = {};
        }
        <BLANKLINE>
    """
    blocks: dict[str, str] = {}
    _add(files, entry, blocks, ())
    return ("const modules = {};\n" + "".join(blocks.values())).encode()


def _add(files: Mapping[str, bytes], path: str, blocks: dict[str, str], importing: tuple[str, ...]) -> None:
    """Add the blocks of a module's imports, then its own."""
    if path in importing:
        raise ValueError(f"{path} imports itself in a circle: {' -> '.join((*importing, path))}")
    if path in blocks:
        return
    source = files[path].decode()
    for line in IMPORT.finditer(source):
        _add(files, _address(path, line), blocks, (*importing, path))
    names = [match["name"] for match in EXPORT.finditer(source)]
    body = IMPORT.sub(lambda line: _binding(line, _address(path, line)), source)
    body, num_defaults = DEFAULT.subn("const exported = ", EXPORT.sub("", body))
    if rest := REST.search(body):
        raise ValueError(f"{path} has a line that can't be joined: {rest[0]}")
    given = ", ".join([*names, *["default: exported"] * num_defaults])
    given = f"{{ {given} }}" if given else "{}"
    blocks[path] = f"{{ // {path}\n{body}modules['{path}'] = {given};\n}}\n"


def _address(path: str, line: re.Match[str]) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), line["path"]))


def _binding(line: re.Match[str], path: str) -> str:
    """Return what gives a module the names that it imports."""
    name = line["some"] or line["all"] or f"{{ default: {line['default']} }}"
    return f"const {name} = modules['{path}'];"
