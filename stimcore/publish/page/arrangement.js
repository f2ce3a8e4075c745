// Arrangements: which blocks run, in which order, and where the deleted ones stood. The grammar is that of stimcore.web.arrangement:
// `1-x2-3.4-6-5`, `1-3.4-5` without deleted blocks, `d2-3-3`, `main`. Text from an address is never trusted: it passes `read` first.
import { say } from './text.js';

const BLOCK = /^x?[1-9][0-9]{0,4}$/, DEPTHS = /^d[1-9][0-9]{0,4}(-[1-9][0-9]{0,4})*$/, MAX_CHARS = 16384;

export const full = (topology) => ({ stages: topology.stages.map((stage) => [...stage]), deleted: new Set() });
export const print = (shown) => shown.stages.map((stage) => stage.map((b) => (shown.deleted.has(b) ? 'x' : '') + b).join('-')).join('.');
export const kept = (shown) => shown.stages.map((stage) => stage.filter((b) => !shown.deleted.has(b)));
export const spec = (shown) => kept(shown).map((stage) => stage.join('-') || 'x').join('.');
export const numBlocks = (topology) => topology.stages.reduce((n, stage) => n + stage.length, 0);
export const route = (shown) => ['stem', ...kept(shown).flat().map((block) => `block${block}`), 'head'];

export const short = (topology, text) => {
  const stages = text.split('.').map((stage) => (stage === 'x' ? [] : stage.split('-').map(Number)));
  return isOrdered(topology, stages) ? 'd' + stages.map((stage) => stage.length).join('-') : text;
};

const isOrdered = (topology, stages) => stages.length === topology.stages.length
  && stages.every((stage, s) => stage.length && stage.every((block, i) => block === topology.stages[s][i]));

// Why the part of a text that describes a stage is refused: it has something else than a block, or nothing.
function notABlock(part, token, number) {
  if (token.trim()) return `'${token.slice(0, 40)}' in stage ${number} is no block`;
  return part.trim() ? `a block is missing in stage ${number}` : `stage ${number} is empty`;
}

function parse(topology, text) {
  if (text === 'main' || text === 'full') return topology.stages.map((stage) => [...stage]);
  if (DEPTHS.test(text)) {
    const depths = text.slice(1).split('-').map(Number);
    if (depths.length !== topology.stages.length || depths.some((d, s) => d > topology.stages[s].length)) {
      throw new Error(`${text} is no ordered sub-network of ${topology.network}; allowed: ${topology.stages.length} depths, each from 1 up to ${topology.stages.map((s) => s.length).join('-')}.`);
    }
    return topology.stages.map((stage, s) => stage.slice(0, depths[s]));
  }
  const stages = text.split('.').map((part, s) => {
    const tokens = part === 'x' ? [] : part.split('-');
    const wrong = tokens.find((token) => !BLOCK.test(token));
    if (wrong !== undefined) throw new Error(`${notABlock(part, wrong, s + 1)}; allowed: numbers such as 4, or x4 for a deleted block.`);
    const running = tokens.filter((token) => token[0] !== 'x').map(Number);
    const both = tokens.find((token) => token[0] === 'x' && running.includes(Number(token.slice(1))));
    if (both) throw new Error(`block ${both.slice(1)} is both deleted and running in stage ${s + 1}.`);
    return running;
  });
  if (stages.length !== topology.stages.length) throw new Error(`${stages.length === 1 ? '1 stage was' : `${stages.length} stages were`} given; allowed: ${topology.stages.length} for ${topology.network}.`);
  return stages;
}

function check(topology, stages) {
  const total = numBlocks(topology), seen = new Set();
  stages.forEach((stage, s) => stage.forEach((block) => {
    if (block > total) throw new Error(`${topology.network} has no block ${block}; allowed: 1 to ${total}.`);
    if (!topology.stages[s].includes(block)) throw new Error(`block ${block} belongs to another stage than stage ${s + 1}.`);
    if (seen.has(block)) throw new Error(`block ${block} runs twice; allowed: every block at most once.`);
    seen.add(block);
  }));
  if (isOrdered(topology, stages)) return;
  if (topology.ordered_only) throw new Error(`This is not an ordered sub-network of ${topology.network}; allowed: the first blocks of every stage, at least one.`);
  stages.forEach((running, s) => topology.stages[s].forEach((block, position) => {
    const why = topology.fixed[block];
    if (!why) return;
    if (!running.includes(block)) {
      if (running.length && running.every((b, i) => b === topology.stages[s][i])) return; // only the tail of the stage is missing
      throw new Error(`block ${block} can't be deleted: ${why}.`);
    }
    const place = running.indexOf(block), before = topology.stages[s].slice(0, position), after = topology.stages[s].slice(position + 1);
    if (running.slice(0, place).some((b) => after.includes(b)) || running.slice(place + 1).some((b) => before.includes(b))) {
      throw new Error(`block ${block} in stage ${s + 1} can't be moved: ${why}.`);
    }
  }));
}

function withDeleted(stage, running) {
  const shown = [...running];
  for (const [i, block] of stage.entries()) {
    if (running.includes(block)) continue;
    const before = stage[i - 1], at = shown.indexOf(before);
    shown.splice(before !== undefined && at >= 0 ? at + 1 : 0, 0, block);
  }
  return shown;
}

// The arrangement of a text; an Error in a reader's words where the network has none.
export function read(topology, given) {
  const text = given.trim();
  if (text.length > MAX_CHARS) throw new Error(`a spec of ${text.length} characters; allowed: at most ${MAX_CHARS}.`);
  const stages = parse(topology, text);
  check(topology, stages);
  const places = stages.map((running, s) => withDeleted(topology.stages[s], running));
  if (text.includes('x')) {
    text.split('.').forEach((part, s) => {
      const written = part.split('-').filter((token) => token !== 'x').map((token) => Number(token.replace(/^x/, '')));
      if ([...written].sort((a, b) => a - b).join() === topology.stages[s].join()) places[s] = written;
    });
  }
  const running = new Set(stages.flat());
  return { stages: places, deleted: new Set(topology.stages.flat().filter((block) => !running.has(block))) };
}

// One sentence on what was done to the network.
export function summarise(topology, shown) {
  const gone = [...shown.deleted], parts = [];
  const moved = kept(shown).flatMap((stage) => {
    const home = [...stage].sort((a, b) => a - b);
    return stage.filter((block, i) => block !== home[i]);
  }).sort((a, b) => a - b);
  if (gone.length === 1) parts.push(say('edit.one_gone', { block: gone[0] }));
  else if (gone.length) parts.push(say('edit.many_gone', { gone: gone.length, blocks: numBlocks(topology) }));
  if (moved.length === 2) parts.push(say(parts.length ? 'edit.two_moved_also' : 'edit.two_moved', { first: moved[0], second: moved[1] }));
  else if (moved.length) parts.push(say('edit.many_moved', { moved: moved.length }));
  return parts.length ? say('edit.all', { edits: parts.join(say('edit.and')) }) : say('edit.nothing_gone');
}

// A note where a first block that the paper's methods never skip is missing or moved; empty elsewhere.
export function caution(topology, firsts, shown) {
  const deleted = firsts.filter((block) => shown.deleted.has(block));
  const moved = kept(shown).map((stage, s) => [topology.stages[s][0], stage])
    .filter(([first, stage]) => firsts.includes(first) && stage.includes(first) && stage[0] !== first).map(([first]) => first);
  const block = deleted[0] ?? moved[0];
  return block === undefined ? '' : say('edit.caution', { block });
}

// A random ordered sub-network.
export const surprise = (topology) => read(topology, 'd' + topology.stages.map((stage) => 1 + Math.floor(Math.random() * stage.length)).join('-'));
