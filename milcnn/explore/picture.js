// A picture that Python draws. Wheel, drag, click and keys are sent as messages; places are shares of its size.
// ipywidgets gives the handles of sliders and the fields of colours no name; itables a table no scrolling by keyboard.
function name(explorer) {
  for (const part of explorer.querySelectorAll(".noUi-handle, input[type=color]")) {
    const label = part.closest(".jupyter-widgets").querySelector(".widget-label");
    const ends = part.closest(".noUi-target")?.querySelectorAll(".noUi-handle").length;
    part.ariaLabel = (label.title || label.textContent) + (ends > 1 ? [", low", ", high"][part.dataset.handle] : "");
  }
  for (const table of explorer.querySelectorAll(".dt-scroll-body")) table.tabIndex = 0;
}

function watch(explorer) {
  name(explorer);
  new MutationObserver(() => name(explorer)).observe(explorer, { childList: true, subtree: true });
}

function render({ model, el }) {
  const image = document.createElement("img");
  image.className = "milcnn-picture";
  image.tabIndex = 0;
  image.draggable = false;
  el.append(image);
  let start = null;
  let steps = 0; // of the wheel, not yet sent
  let waiting = false; // for the picture after a wheel step: no queue of old ones

  const share = (event) => {
    const { left, top, width, height } = image.getBoundingClientRect();
    return { x: (event.clientX - left) / width, y: (event.clientY - top) / height };
  };

  function show() {
    URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(new Blob([model.get("data")], { type: "image/jpeg" }));
    image.alt = model.get("alt");
    image.style.display = image.alt ? "" : "none"; // none is drawn yet
    image.style.transform = "";
    waiting = false;
  }

  image.addEventListener("wheel", (event) => {
    event.preventDefault();
    steps += Math.sign(event.deltaY);
    if (waiting || !steps) return;
    model.send({ kind: "wheel", steps, ...share(event) });
    [waiting, steps] = [true, 0];
  });
  image.addEventListener("pointerdown", (event) => {
    start = event;
    image.setPointerCapture(event.pointerId);
  });
  image.addEventListener("pointermove", (event) => {
    if (start && model.get("pans"))
      image.style.transform = `translate(${event.clientX - start.clientX}px, ${event.clientY - start.clientY}px)`;
  });
  image.addEventListener("pointerup", (event) => {
    image.style.transform = "";
    const [from, to] = [share(start), share(event)];
    const far = Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY) > 4;
    model.send(far ? { kind: "drag", x: to.x - from.x, y: to.y - from.y } : { kind: "click", ...to });
    start = null;
  });
  image.addEventListener("keydown", (event) => {
    if (!model.get("sends").includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    model.send({ kind: "key", key: event.key });
  });
  const placed = new ResizeObserver(() => {
    const explorer = el.closest(".milcnn-explorer"); // not there before the picture is on the page
    if (!explorer) return;
    placed.disconnect();
    watch(explorer);
  });
  if (model.get("pans")) placed.observe(image);
  model.on("change:data", show);
  show();
}

export default { render };
