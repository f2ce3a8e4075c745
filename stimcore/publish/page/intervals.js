// 95 % intervals in percent, as stimcore.analysis.intervals computes them.
const Z95 = 1.959963984540054;

export function wilson(correct, images) {
  if (!images) return [0, 100];
  const share = correct / images, squared = Z95 ** 2;
  const centre = (share + squared / (2 * images)) / (1 + squared / images);
  const half = (Z95 / (1 + squared / images)) * Math.sqrt((share * (1 - share)) / images + squared / (4 * images ** 2));
  return [100 * Math.max(0, centre - half), 100 * Math.min(1, centre + half)];
}

export function pairedDrop(lost, won, images) {
  if (!images) return { drop: 0, interval: [-100, 100] };
  const pLost = (lost + 1) / (images + 2), pWon = (won + 1) / (images + 2), centre = pLost - pWon;
  const half = Z95 * Math.sqrt(Math.max(0, pLost + pWon - centre ** 2) / (images + 2));
  const drop = (100 * (lost - won)) / images;
  return { drop, interval: [Math.min(100 * Math.max(-1, centre - half), drop), Math.max(100 * Math.min(1, centre + half), drop)] };
}
