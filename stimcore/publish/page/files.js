// Files of the site. A response with another status than 200 is an error that names the file.
export const floats = (base64) => new Float32Array(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)).buffer);

async function response(address) {
  const early = globalThis.early?.requests.get(address); // the page itself may have asked for it; a worker has no such requests
  globalThis.early?.requests.delete(address);
  let answer;
  try {
    answer = await (early ?? fetch(address, { credentials: 'omit', cache: 'no-cache' }));
  } catch {
    throw new Error(`${address} could not be loaded. Check the connection, or build the site again.`);
  }
  if (!answer.ok) throw new Error(`${address} is not on this site (status ${answer.status}).`);
  return answer;
}

export const fetchJson = async (address) => (await response(address)).json();
export const fetchBytes = async (address) => new Uint8Array(await (await response(address)).arrayBuffer());
// A file that is a zlib stream, decompressed.
export const fetchPacked = async (address) => {
  const stream = (await response(address)).body.pipeThrough(new DecompressionStream('deflate'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
};
