// Everything that buttons do, by single keys.

const KEYS = {
  ArrowLeft: () => turnTo(state.image - 1),
  ArrowRight: () => turnTo(state.image + 1),
  ArrowUp: () => stepObject(-1),
  ArrowDown: () => stepObject(1),
  "[": () => stepLevel(-1),
  "]": () => stepLevel(1),
  a: () => look({ apart: !state.apart }),
  m: turnToMissed,
  b: () => toggleShown("photo"),
  o: () => toggleShown("frames"),
  n: () => toggleShown("labels"),
  i: () => toggleShown("ignored"),
  "+": () => zoomBy(ZOOM_STEP, panels[0]),
  "=": () => zoomBy(ZOOM_STEP, panels[0]),
  "-": () => zoomBy(1 / ZOOM_STEP, panels[0]),
  f: fit,
  Escape: () => choose(NO_OBJECT),
};
for (let digit = 0; digit <= 9; digit++) KEYS[digit] = () => digit <= index.columns.length && chooseColumn(digit - 1);

/** An assigner, or all of them for SIDE_BY_SIDE; of one alone there is no choice. */
const chooseColumn = (column) => index.columns.length > 1 && look({ column });

function onKey(event) {
  const isTyped = /^(SELECT|INPUT)$/.test(event.target.tagName);
  const action = KEYS[event.key];
  if (!action || event.ctrlKey || event.metaKey || event.altKey || (isTyped && event.key !== "Escape")) return;
  event.preventDefault();
  action();
}
