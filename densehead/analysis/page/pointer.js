// Mouse, pen and fingers on a picture: hover, choose, move, pinch.

const MOVED = 4; // CSS pixels; less is a click
const pointers = new Map();
let gesture = null;

function listenToPointer(panel) {
  const { overlay } = panel;
  overlay.addEventListener("pointerdown", (event) => press(panel, event));
  overlay.addEventListener("pointermove", (event) =>
    pointers.has(event.pointerId) ? drag(panel, event) : hover(panel, event),
  );
  overlay.addEventListener("pointerup", (event) => release(panel, event));
  overlay.addEventListener("pointercancel", (event) => pointers.delete(event.pointerId));
  overlay.addEventListener("pointerleave", (event) => event.pointerType !== "touch" && setHover(null));
  overlay.addEventListener("dblclick", (event) => zoomInto(panel, event));
  overlay.addEventListener("wheel", (event) => turnWheel(panel, event), { passive: false });
}

function zoomInto(panel, event) {
  const { object } = hitAt(panel, placeOf(panel, event));
  if (object === NO_OBJECT) return zoomBy(2, panel, placeOf(panel, event));
  choose(object);
  zoomTo(panel.scene.objects[object], panel);
}

/** Zoom, but where the page scrolls leave it the wheel, unless the picture is zoomed already. */
function turnWheel(panel, event) {
  if (isPageScrolled() && view.zoom === 1 && !event.ctrlKey) return;
  event.preventDefault();
  const lines = event.deltaMode ? 0.05 : 0.0015;
  const rate = event.ctrlKey ? 0.01 : lines; // browsers tell of two fingers on a touchpad in this way
  zoomBy(Math.exp(-event.deltaY * rate), panel, placeOf(panel, event));
}

function placeOf(panel, event) {
  const { left, top } = panel.overlay.getBoundingClientRect();
  return { x: event.clientX - left, y: event.clientY - top };
}

function press(panel, event) {
  if (event.button !== 0) return;
  panel.overlay.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, placeOf(panel, event));
  gesture = { start: placeOf(panel, event), moved: pointers.size > 1 };
}

function drag(panel, event) {
  const [place, before] = [placeOf(panel, event), pointers.get(event.pointerId)];
  if (Math.hypot(place.x - gesture.start.x, place.y - gesture.start.y) > MOVED) gesture.moved = true;
  if (!gesture.moved) return;
  setHover(null);
  const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, other]) => other);
  pointers.set(event.pointerId, place);
  if (!others.length) return moveBy(place.x - before.x, place.y - before.y, panel);
  const distance = (one) => Math.hypot(one.x - others[0].x, one.y - others[0].y);
  zoomBy(distance(place) / Math.max(distance(before), 1), panel, {
    x: (place.x + others[0].x) / 2,
    y: (place.y + others[0].y) / 2,
  });
}

function release(panel, event) {
  if (!pointers.delete(event.pointerId) || gesture.moved) return;
  const hit = hitAt(panel, placeOf(panel, event));
  if (hit.kind === "object") choose(nextOf(hit.objects.map((object) => object.number)));
  else if (hit.kind !== "ignored") choose(hit.object === state.object ? NO_OBJECT : hit.object);
  hover(panel, event);
}

/** The smallest object at a place, and at further clicks those around it, at last none. */
const nextOf = (numbers) => numbers[numbers.indexOf(state.object) + 1] ?? NO_OBJECT;

function hover(panel, event) {
  const hit = hitAt(panel, placeOf(panel, event));
  setHover({ panel, hit, clientX: event.clientX, clientY: event.clientY });
}
