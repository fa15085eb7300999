// The small curve in a tile: [s, value] up to `now`, drawn on a canvas; where nothing came for `gap` seconds is a gap.
export function spark(canvas, points, now, span, gap, colour) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (!width || !height) return;
  if (canvas.width !== Math.round(width * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  const known = points.map((p) => p[1]);
  if (known.length < 2) return;
  let [low, high] = [Math.min(...known), Math.max(...known)];
  const least = Math.max(Math.abs(high), Math.abs(low)) * 1e-3 || 1; // noise is not to look like a mountain
  if (high - low < least) [low, high] = [(low + high - least) / 2, (low + high + least) / 2];
  const x = (t) => width * (1 - (now - t) / span);
  const y = (v) => 2 + (height - 4) * (1 - (v - low) / (high - low));
  pen.lineWidth = 1.6;
  pen.lineJoin = "round";
  pen.strokeStyle = pen.fillStyle = colour;
  const pieces = [];
  let before = -Infinity;
  for (const [t, v] of points) {
    if (t - before > gap + 1) pieces.push([]); // a second is the least there is
    pieces.at(-1).push([x(t), y(v)]);
    before = t;
  }
  for (const piece of pieces) {
    pen.beginPath();
    piece.forEach(([px, py], i) => (i ? pen.lineTo(px, py) : pen.moveTo(px, py)));
    pen.stroke();
    pen.lineTo(piece.at(-1)[0], height);
    pen.lineTo(piece[0][0], height);
    pen.globalAlpha = 0.1;
    pen.fill();
    pen.globalAlpha = 1;
  }
}
