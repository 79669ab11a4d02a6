/* The first layer of a net over a picture: what each kernel answers where the mouse is. The data are in the page. */
(function () {
  "use strict";
  const root = document.getElementById("look");
  if (!root) return;
  const data = JSON.parse(document.getElementById("look-data").textContent);
  const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const { k, stride, size, maps, columns, mean, scale, norm, words } = data;
  const say = (text, ...values) => text.replace(/\{(\d)\}/g, (_, n) => values[n]);
  const kernels = floats(data.kernels); // (maps, k, k, 3)
  const biases = floats(data.biases);
  const side = Math.floor((size - k) / stride) + 1; // output positions
  const pooledSide = Math.floor((side - 3) / 2) + 1;
  const perColumn = maps / columns;
  const part = (name) => root.querySelector("." + name);
  const photo = part("photo"), map = part("map");
  const state = { kernel: 0, row: 26, column: 50, stage: "relu" };
  let pixels = null; // RGBA bytes of the picture
  let x = null; // (size, size, 3): what the layer reads
  let cache = {};

  function response(o, i, j) {
    let sum = biases[o], w = o * k * k * 3;
    for (let u = 0; u < k; u++) {
      let at = ((stride * i + u) * size + stride * j) * 3;
      for (let n = 0; n < 3 * k; n++) sum += x[at++] * kernels[w++];
    }
    return sum;
  }

  function stage(name, o) { // a map, row by row
    const key = name + o;
    if (cache[key]) return cache[key];
    const out = new Float32Array(name === "pool" ? pooledSide * pooledSide : side * side);
    if (name === "sum") {
      for (let i = 0; i < side; i++) for (let j = 0; j < side; j++) out[i * side + j] = response(o, i, j);
    } else if (name === "relu") {
      stage("sum", o).forEach((value, n) => { out[n] = Math.max(0, value); });
    } else if (name === "norm") { // over neighbouring maps of the same column, as in section 3.3
      const first = perColumn * Math.floor(o / perColumn), last = first + perColumn - 1, reach = (norm.n - 1) / 2;
      for (let c = Math.max(first, o - reach); c <= Math.min(last, o + reach); c++) {
        stage("relu", c).forEach((value, n) => { out[n] += value * value; });
      }
      stage("relu", o).forEach((value, n) => { out[n] = value / Math.pow(norm.k + norm.alpha * out[n], norm.beta); });
    } else { // windows of 3 x 3 that overlap
      const below = stage("norm", o);
      for (let i = 0; i < pooledSide; i++) for (let j = 0; j < pooledSide; j++) {
        let most = -Infinity;
        for (let u = 0; u < 3; u++) for (let v = 0; v < 3; v++) most = Math.max(most, below[(2 * i + u) * side + 2 * j + v]);
        out[i * pooledSide + j] = most;
      }
    }
    cache[key] = out;
    return out;
  }

  function paint(canvas, width, colour) { // colour(n) gives [r, g, b] of pixel n
    const height = width;
    canvas.width = canvas.height = width;
    const image = new ImageData(width, height);
    for (let n = 0; n < width * height; n++) {
      const [r, g, b] = colour(n);
      image.data.set([r, g, b, 255], 4 * n);
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  function signed(value) { // -1 is blue, 0 white, 1 red
    const t = Math.max(-1, Math.min(1, value));
    return t < 0 ? [255 + 215 * t, 255 + 130 * t, 255 + 60 * t] : [255 - 40 * t, 255 - 160 * t, 255 - 215 * t];
  }

  function largest(values) {
    let most = 1e-9;
    for (const value of values) most = Math.max(most, Math.abs(value));
    return most;
  }

  function drawKernel(canvas, o) {
    const own = kernels.subarray(o * k * k * 3, (o + 1) * k * k * 3), most = largest(own);
    paint(canvas, k, (n) => [0, 1, 2].map((c) => 128 + 127 * own[3 * n + c] / most));
  }

  function drawPhoto() {
    const context = photo.getContext("2d");
    photo.width = photo.height = size;
    context.putImageData(pixels, 0, 0);
    context.strokeStyle = "#d55e00";
    context.lineWidth = 2;
    context.strokeRect(stride * state.column - 1, stride * state.row - 1, k + 2, k + 2);
  }

  function drawMap() {
    const values = stage(state.stage, state.kernel), most = largest(values), pooled = state.stage === "pool";
    const width = pooled ? pooledSide : side;
    paint(map, width, (n) => state.stage === "sum" ? signed(values[n] / most) : [0, 1, 2].map(() => 255 * values[n] / most));
    const context = map.getContext("2d");
    context.fillStyle = "#d55e00";
    const at = (n) => pooled ? Math.min(pooledSide - 1, n >> 1) : n;
    context.fillRect(at(state.column) - 1, at(state.row) - 1, 3, 3);
    part("shape").textContent = width + " x " + width;
  }

  function drawProduct() {
    const o = state.kernel, own = kernels.subarray(o * k * k * 3, (o + 1) * k * k * 3);
    const corner = (n) => 3 * ((stride * state.row + Math.floor(n / k)) * size + stride * state.column + n % k);
    const bytes = (n) => { const at = corner(n) / 3 * 4; return pixels.data.slice(at, at + 3); };
    paint(part("patch"), k, bytes);
    drawKernel(part("kernel"), o);
    const products = Array.from({ length: k * k }, (_, n) => [0, 1, 2].reduce((sum, c) => sum + x[corner(n) + c] * own[3 * n + c], 0));
    const most = largest(products);
    paint(part("product"), k, (n) => signed(products[n] / most));
    const z = response(o, state.row, state.column), sum = z - biases[o];
    const values = [sum, biases[o], z, Math.max(0, z)].map((value) => value.toFixed(2));
    part("numbers").textContent = say(words.numbers, 3 * k * k, ...values);
  }

  function answers() { // of all kernels to this patch
    const all = Array.from({ length: maps }, (_, o) => Math.max(0, response(o, state.row, state.column))), most = largest(all);
    root.querySelectorAll(".kernels button").forEach((button, o) => {
      button.style.setProperty("--answer", all[o] / most);
      button.setAttribute("aria-pressed", o === state.kernel);
    });
  }

  function draw() {
    drawPhoto();
    drawMap();
    drawProduct();
    answers();
  }

  function load(image) { // the largest square in the middle
    const edge = Math.min(image.naturalWidth, image.naturalHeight);
    photo.width = photo.height = size;
    const context = photo.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, (image.naturalWidth - edge) / 2, (image.naturalHeight - edge) / 2, edge, edge, 0, 0, size, size);
    pixels = context.getImageData(0, 0, size, size);
    x = new Float32Array(size * size * 3);
    for (let n = 0; n < size * size; n++) for (let c = 0; c < 3; c++) x[3 * n + c] = (pixels.data[4 * n + c] - mean[c]) * scale;
    cache = {};
    draw();
    root.dataset.ready = "yes";
  }

  function point(canvas, event) {
    const box = canvas.getBoundingClientRect(), clamp = (n) => Math.max(0, Math.min(side - 1, n));
    const across = (event.clientX - box.left) / box.width, down = (event.clientY - box.top) / box.height;
    const half = canvas === photo ? k / 2 : 0, scaleTo = canvas === photo ? size : side * stride;
    state.column = clamp(Math.round((across * scaleTo - half) / stride));
    state.row = clamp(Math.round((down * scaleTo - half) / stride));
    draw();
  }

  for (const canvas of [photo, map]) {
    canvas.addEventListener("pointermove", (event) => point(canvas, event));
    canvas.addEventListener("pointerdown", (event) => point(canvas, event));
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (!step) return;
      event.preventDefault();
      state.row = Math.max(0, Math.min(side - 1, state.row + step[0]));
      state.column = Math.max(0, Math.min(side - 1, state.column + step[1]));
      draw();
    });
  }
  for (let c = 0; c < columns; c++) {
    const box = document.createElement("div");
    box.dataset.column = say(words.column, "ab"[c]);
    part("kernels").append(box);
    for (let o = c * perColumn; o < (c + 1) * perColumn; o++) {
      const button = document.createElement("button"), canvas = document.createElement("canvas");
      button.type = "button";
      button.setAttribute("aria-label", say(words.kernel, o + 1));
      drawKernel(canvas, o);
      button.append(canvas);
      for (const name of ["pointerenter", "click", "focus"]) button.addEventListener(name, () => { state.kernel = o; draw(); });
      box.append(button);
    }
  }
  root.querySelectorAll("input[type=radio]").forEach((input) => {
    input.addEventListener("change", () => { state.stage = input.value; draw(); });
  });
  part("own").addEventListener("change", (event) => {
    if (!event.target.files.length) return;
    const image = new Image(), address = URL.createObjectURL(event.target.files[0]);
    image.onload = () => { load(image); URL.revokeObjectURL(address); };
    image.onerror = () => { part("numbers").textContent = words.unreadable; };
    image.src = address;
  });
  const first = new Image();
  first.onload = () => load(first);
  first.src = data.picture;
  window.tinyalexLook = { data, stage, pixels: () => Array.from(pixels.data), kernels, biases, side, pooledSide };
})();
