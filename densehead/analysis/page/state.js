// What is looked at. All of it but the zoom is in the address, so that a link shows the same.

const SIDE_BY_SIDE = -1;
const NO_OBJECT = -1;
const SHOWN = ["photo", "frames", "labels", "ignored"];
const state = {
  image: 0,
  column: 0,
  strides: null,
  object: NO_OBJECT,
  apart: false,
  hidden: new Set(),
  sort: "missed",
};

function readAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  const number = (key, count, otherwise) => {
    const value = Number(said.get(key) || NaN);
    return Number.isInteger(value) && value >= 0 && value < count ? value : otherwise;
  };
  state.image = number("image", index.images.length + 1, 1) - 1;
  if (state.image < 0) state.image = 0;
  const scene = readScene(state.image);
  const start = index.columns.length > 1 && !index.is_run ? SIDE_BY_SIDE : 0;
  state.column = said.has("column") ? index.columns.indexOf(said.get("column")) : start; // -1 is side by side
  if (index.columns.length === 1) state.column = 0;
  const wanted = (said.get("level") ?? "").split(",").map(Number);
  const strides = scene.strides.filter((one) => wanted.includes(one));
  state.strides = strides.length ? new Set(strides) : null;
  state.object = number("object", scene.objects.length, NO_OBJECT);
  state.apart = said.get("apart") === "1";
  state.hidden = new Set((said.get("hide") ?? "").split(",").filter((one) => SHOWN.includes(one)));
}

function writeAddress() {
  const said = new URLSearchParams({ image: state.image + 1 });
  said.set("column", state.column === SIDE_BY_SIDE ? "" : index.columns[state.column]);
  if (state.strides) said.set("level", [...state.strides].join(","));
  if (state.object !== NO_OBJECT) said.set("object", state.object);
  if (state.apart) said.set("apart", 1);
  if (state.hidden.size) said.set("hide", [...state.hidden].join(","));
  const hash = `#${said}`.replaceAll("%2C", ",");
  if (hash !== location.hash) history.replaceState(null, "", hash);
}

/** Change what is looked at, and show it. */
function look(changes) {
  const turned = "image" in changes && changes.image !== state.image;
  Object.assign(state, changes);
  if (turned) {
    state.object = changes.object ?? NO_OBJECT;
    const strides = readScene(state.image).strides;
    const left = state.strides && strides.filter((one) => state.strides.has(one));
    state.strides = left && left.length ? new Set(left) : null;
    resetView();
  }
  writeAddress();
  show();
}

const turnTo = (image) => look({ image: (image + index.images.length) % index.images.length });
const choose = (object) => look({ object });
const isShown = (what) => !state.hidden.has(what);
const shownColumns = () => (state.column === SIDE_BY_SIDE ? index.columns.map((_, number) => number) : [state.column]);
const isStrideShown = (stride) => !state.strides || state.strides.has(stride);

/** One level alone: the one after (1) or before (-1) the first that is shown, and all of them at either end. */
function stepLevel(step) {
  const strides = readScene(state.image).strides;
  const at = state.strides ? strides.indexOf(Math.min(...state.strides)) : step > 0 ? -1 : strides.length;
  const next = strides[at + step];
  look({ strides: next === undefined ? null : new Set([next]) });
}

/** A level of all: it alone. Another one: with it. The last one again: all. */
function toggleStride(stride) {
  const strides = new Set(state.strides ?? []);
  if (!strides.delete(stride)) strides.add(stride);
  const all = readScene(state.image).strides.length;
  look({ strides: strides.size && strides.size < all ? strides : null });
}

function toggleShown(what) {
  const hidden = new Set(state.hidden);
  if (!hidden.delete(what)) hidden.add(what);
  look({ hidden });
}
