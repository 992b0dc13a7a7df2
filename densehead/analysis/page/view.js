// One zoom for all pictures: a factor over the whole image, and the point of the image in the middle.

const LARGEST_ZOOM = 40;
const ZOOM_STEP = 1.5; // of the buttons
const view = { zoom: 1, x: 0.5, y: 0.5 }; // x and y in parts of the image

function resetView() {
  Object.assign(view, { zoom: 1, x: 0.5, y: 0.5 });
}

/** How pixels of the image lie in a picture of some size: CSS pixels = offset + scale * pixels. */
function transform(scene, width, height) {
  const scale = view.zoom * Math.min(width / scene.width, height / scene.height);
  return { scale, left: width / 2 - view.x * scene.width * scale, top: height / 2 - view.y * scene.height * scale };
}

/** Keep the image over the middle of the picture, and whole where it fits. */
function clampView(scene, width, height) {
  view.zoom = Math.min(Math.max(view.zoom, 1), LARGEST_ZOOM);
  const { scale } = transform(scene, width, height);
  const clamp = (value, shown) => (shown >= 1 ? 0.5 : Math.min(Math.max(value, shown / 2), 1 - shown / 2));
  view.x = clamp(view.x, width / (scene.width * scale));
  view.y = clamp(view.y, height / (scene.height * scale));
}

/** Zoom by a factor about a place in a picture, its middle if none is said. */
function zoomBy(factor, panel, place) {
  const { scene, width, height } = panel;
  const at = place ?? { x: width / 2, y: height / 2 };
  const before = transform(scene, width, height);
  view.zoom = Math.min(Math.max(view.zoom * factor, 1), LARGEST_ZOOM);
  const { scale } = transform(scene, width, height);
  view.x = ((at.x - before.left) / before.scale + (width / 2 - at.x) / scale) / scene.width;
  view.y = ((at.y - before.top) / before.scale + (height / 2 - at.y) / scale) / scene.height;
  clampView(scene, width, height);
  repaint();
}

function moveBy(dx, dy, panel) {
  const { scene, width, height } = panel;
  const { scale } = transform(scene, width, height);
  view.x -= dx / (scale * scene.width);
  view.y -= dy / (scale * scene.height);
  clampView(scene, width, height);
  repaint();
}

function fit() {
  resetView();
  repaint();
}

/** Show an object with about as much around it as it is long. */
function zoomTo(object, panel) {
  const { scene, width, height } = panel;
  const fitting = Math.min(width / scene.width, height / scene.height);
  view.zoom = Math.min(width / object.width, height / object.height) / 2.2 / fitting;
  view.x = (object.box[0] + object.box[2]) / 2 / scene.width;
  view.y = (object.box[1] + object.box[3]) / 2 / scene.height;
  clampView(scene, width, height);
  repaint();
}
