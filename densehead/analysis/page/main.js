// Putting it together.

function show() {
  const scene = readScene(state.image);
  scene.photo.onload ??= repaint;
  hovered = null;
  showTip();
  showControls(scene);
  showDetails(scene);
  showList(scene);
  showPanels(scene);
  setTimeout(() => readScene((state.image + 1) % index.images.length), 200); // it is there when it is turned to
}

buildControls();
readAddress();
look({});
new ResizeObserver(relayout).observe(stage);
addEventListener("keydown", onKey);
addEventListener("scroll", () => setHover(null), { passive: true });
addEventListener("hashchange", () => {
  resetView();
  readAddress();
  look({});
});
