// Kept patches drawn over the picture; the PNG of `meteor-bench show` looks the same.

/** The cells of a panel over its frames: kept as they are, dropped ones faded, merged ones tinted. */
function patches(panel, frames) {
  const canvas = el("canvas", { role: "img", "aria-label": `${panel.title}: ${panel.kept} patches kept` });
  canvas.paint = () => {};
  Promise.all(
    frames.map((src) => {
      const image = new Image();
      image.src = src;
      return image.decode().then(() => image);
    }),
  ).then((images) => {
    canvas.paint = () => paintPanel(canvas, panel, images);
    canvas.paint();
  });
  return canvas;
}

function paintPanel(canvas, panel, images) {
  const [t, h, w] = panel.grid;
  const across = Math.ceil(Math.sqrt(t));
  const side = Math.floor(272 / across); // twice the size on the page, for fine screens
  const tall = Math.round((side * images[0].naturalHeight) / images[0].naturalWidth);
  canvas.width = side * across;
  canvas.height = tall * Math.ceil(t / across);
  canvas.dataset.painted = "yes";
  const c = canvas.getContext("2d");
  const tints = [
    "0, 114, 178",
    "230, 159, 0",
    "0, 158, 115",
    "213, 94, 0",
    "204, 121, 167",
    "86, 180, 233",
    "240, 228, 66",
  ];
  const veil = veilOver(images[0]);
  for (let frame = 0; frame < Math.min(t, images.length); frame++) {
    const left = (frame % across) * side;
    const top = Math.floor(frame / across) * tall;
    c.drawImage(images[frame], left, top, side, tall);
    const at = (row, column) => frame * h * w + row * w + column;
    const xs = Array.from({ length: w + 1 }, (_, i) => left + Math.round((i * side) / w));
    const ys = Array.from({ length: h + 1 }, (_, i) => top + Math.round((i * tall) / h));
    for (let row = 0; row < h; row++) {
      for (let column = 0; column < w; column++) {
        const state = panel.colour[at(row, column)];
        if (state === 0) continue;
        c.globalAlpha = state < 0 ? 0.86 : 0.58;
        c.fillStyle = state < 0 ? veil : `rgb(${tints[(state - 1) % tints.length]})`;
        c.fillRect(xs[column], ys[row], xs[column + 1] - xs[column], ys[row + 1] - ys[row]);
        if (state < 0) hatch(c, xs[column], ys[row], xs[column + 1], ys[row + 1]);
      }
    }
    c.globalAlpha = 1;
    borders(c, panel, xs, ys, at);
  }
}

const brightness = new WeakMap();

/** What dropped patches fade into: the page, or a grey where the picture itself is as pale or as dark as the page. */
function veilOver(image) {
  if (!brightness.has(image)) {
    const small = el("canvas", { width: 1, height: 1 });
    const c = small.getContext("2d", { willReadFrequently: true });
    c.imageSmoothingQuality = "high";
    c.drawImage(image, 0, 0, 1, 1);
    const [red, green, blue] = c.getImageData(0, 0, 1, 1).data;
    brightness.set(image, (red + green + blue) / 3);
  }
  const light = brightness.get(image);
  if (document.documentElement.dataset.theme === "dark") return light < 90 ? "#8a919d" : colour("card");
  return light > 190 ? "#a9adb4" : colour("card");
}

/** Slanting lines, so that it cannot be taken for a part of the picture. */
function hatch(c, left, top, right, bottom) {
  const apart = 10;
  c.save();
  c.beginPath();
  c.rect(left, top, right - left, bottom - top);
  c.clip();
  c.globalAlpha = 0.3;
  c.strokeStyle = colour("faint");
  c.lineWidth = 1.5;
  c.beginPath();
  // Lines of x + y = a multiple of `apart`, so that they run on from cell to cell.
  for (let sum = apart * Math.ceil((left + top) / apart); sum < right + bottom; sum += apart) {
    c.moveTo(sum - top, top);
    c.lineTo(sum - bottom, bottom);
  }
  c.stroke();
  c.restore();
}

/** Lines between groups where one of the two is merged, and a dot on the patch that stands for its group. */
function borders(c, panel, xs, ys, at) {
  const [, h, w] = panel.grid;
  c.fillStyle = "#fff";
  for (let row = 0; row < h; row++) {
    for (let column = 0; column < w; column++) {
      const here = at(row, column);
      const merged = (cell) => panel.colour[cell] > 0;
      const apart = (cell) => panel.group[cell] !== panel.group[here] && (merged(cell) || merged(here));
      if (column + 1 < w && apart(at(row, column + 1)))
        c.fillRect(xs[column + 1] - 1, ys[row], 2, ys[row + 1] - ys[row]);
      if (row + 1 < h && apart(at(row + 1, column)))
        c.fillRect(xs[column], ys[row + 1] - 1, xs[column + 1] - xs[column], 2);
    }
  }
  c.fillStyle = "#1c1e22";
  for (let row = 0; row < h; row++) {
    for (let column = 0; column < w; column++) {
      const here = at(row, column);
      if (panel.colour[here] <= 0 || panel.group[here] !== panel.start + here) continue;
      c.beginPath();
      c.arc(
        (xs[column] + xs[column + 1]) / 2,
        (ys[row] + ys[row + 1]) / 2,
        Math.max(2, 0.16 * (xs[1] - xs[0])),
        0,
        2 * Math.PI,
      );
      c.fill();
    }
  }
}
