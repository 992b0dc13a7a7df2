// When pictures are painted: once for all changes of a frame. What takes long to paint is moved as a picture first.

const SLOW = 40; // milliseconds
const AT_REST = 120; // milliseconds without a move, then a picture that was moved is painted anew
let isAsked = false;
let paintTime = 0;
let restTimer = 0;

function repaint() {
  stage.setAttribute("aria-busy", "true");
  if (!isAsked) requestAnimationFrame(paintWhatIsAsked);
  isAsked = true;
}

function paintWhatIsAsked() {
  isAsked = false;
  clearTimeout(restTimer);
  byId("zoom-fit").textContent = `${Math.round(view.zoom * 100)}%`;
  for (const { overlay } of panels) overlay.style.touchAction = view.zoom > 1 ? "none" : "pan-y";
  if (paintTime > SLOW && panels.every(isMovedSnapshot)) {
    panels.forEach(paintSnapshot);
    restTimer = setTimeout(paintAnew, AT_REST);
  } else {
    paintAnew();
  }
}

function paintAnew() {
  const start = performance.now();
  panels.forEach(paintPanel);
  requestAnimationFrame(() => (paintTime = performance.now() - start)); // until the browser is ready for the next
  for (const panel of panels) panel.snapshot = paintTime > SLOW ? takeSnapshot(panel) : null;
  paintHover();
  if (panels.every((panel) => panel.scene.photo.complete)) stage.setAttribute("aria-busy", "false");
}

function isMovedSnapshot({ snapshot }) {
  return snapshot && ["zoom", "x", "y"].some((key) => snapshot.view[key] !== view[key]);
}

function takeSnapshot(panel) {
  const canvas = element("canvas", { width: panel.canvas.width, height: panel.canvas.height });
  canvas.getContext("2d").drawImage(panel.canvas, 0, 0);
  return { canvas, view: { ...view }, place: transform(panel.scene, panel.width, panel.height) };
}

function paintSnapshot(panel) {
  const { context, scene, width, height, snapshot } = panel;
  const place = transform(scene, width, height);
  clearPanel(panel);
  paintPhoto(context, scene, place);
  const growth = place.scale / snapshot.place.scale;
  const [x, y] = [place.left - snapshot.place.left * growth, place.top - snapshot.place.top * growth];
  context.drawImage(snapshot.canvas, x, y, width * growth, height * growth);
}
