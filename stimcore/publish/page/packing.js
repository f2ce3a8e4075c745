// Unpacks what stimcore.publish.packing packed: images and weights, losslessly. The formats are described there.
const LEVELS = 32, CONTRASTS = [1, 10, 25, 50, 100];

// Images as uint8 [N, C, H, W] from a decompressed stream.
export function unpackImages(bytes, [channels, height, width]) {
  const kinds = CONTRASTS.length + 1, classes = LEVELS * kinds, counts = new DataView(bytes.buffer, bytes.byteOffset, 4 * classes);
  const next = new Uint32Array(classes); // where the next pixel of every class is
  for (let i = 0, at = 4 * classes; i < classes; i += 1) { next[i] = at; at += counts.getUint32(4 * i, true); }
  const pixels = new Uint8Array(bytes.length - 4 * classes), planes = pixels.length / (height * width);
  const kindOf = Uint8Array.from({ length: 5 * 255 + 1 }, (_, contrast) => CONTRASTS.filter((from) => contrast >= from).length);
  const step = width + 3, padded = new Int32Array((height + 2) * step); // a plane with a black border, as it is read
  for (let plane = 0, out = 0; plane < planes; plane += 1) {
    for (let row = 0; row < height; row += 1) {
      for (let column = 0, at = (row + 2) * step + 2; column < width; column += 1, at += 1, out += 1) {
        const west = padded[at - 1], north = padded[at - step], northWest = padded[at - step - 1], northEast = padded[at - step + 1];
        const predicted = Math.min(Math.max(west + north - northWest, Math.min(west, north)), Math.max(west, north));
        const contrast = Math.abs(west - northWest) + Math.abs(northWest - north) + Math.abs(north - northEast)
          + Math.abs(west - padded[at - 2]) + Math.abs(north - padded[at - 2 * step]);
        const kind = Math.floor(predicted / (256 / LEVELS)) * kinds + kindOf[contrast];
        padded[at] = pixels[out] = bytes[next[kind]];
        next[kind] += 1;
      }
    }
  }
  if (channels * Math.round(planes / channels) !== planes) throw new Error('The file of images is damaged. Build the site again.');
  return pixels;
}

// A file of weights from a decompressed stream: bytes of the same place in float32 values lie together.
export function unpackWeights(bytes) {
  const size = Math.floor(bytes.length / 4), content = bytes.slice(), view = new DataView(content.buffer);
  for (let i = 0; i < size; i += 1) {
    const turned = (bytes[i] << 24) | (bytes[size + i] << 16) | (bytes[2 * size + i] << 8) | bytes[3 * size + i];
    view.setUint32(4 * i, (turned >>> 1) | (turned << 31), true);
  }
  return content;
}
