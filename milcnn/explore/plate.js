// A plate: a square a well, chosen by click or by arrow keys. `plate` holds rows, columns and wells, see plate.py.
const element = (role, text, label) => {
  const made = document.createElement("div");
  made.setAttribute("role", role);
  made.textContent = text;
  if (label) made.setAttribute("aria-label", label);
  return made;
};

function render({ model, el }) {
  const grid = element("grid", "", "wells of the plate");
  grid.className = "milcnn-plate";
  el.append(grid);
  let places = new Map(); // "row,column" → its square

  function draw() {
    const { row_names, column_names, wells } = model.get("plate");
    const focused = grid.contains(document.activeElement);
    const named = row_names.some(Boolean);
    const heading = (role, text) => element(named ? role : "none", text);
    grid.style.gridTemplateColumns = `${named ? "auto" : "0"} repeat(${column_names.length}, minmax(0, 1fr))`;
    places = new Map();
    const lines = [heading("row", ""), ...row_names.map(() => element("row", ""))];
    lines[0].append(heading("columnheader", "row"), ...column_names.map((name) => heading("columnheader", name)));
    row_names.forEach((name, row) => lines[row + 1].append(heading("rowheader", name)));
    for (const [row, column, name, colour, label] of wells) {
      const square = element("gridcell", "", label);
      Object.assign(square.dataset, { row, column, name });
      square.title = label;
      if (colour) square.style.background = colour;
      else square.setAttribute("aria-disabled", "true");
      places.set(`${row},${column}`, square);
      lines[row + 1].append(square);
    }
    grid.replaceChildren(...lines);
    mark(focused);
  }

  function mark(focus) {
    for (const square of places.values()) {
      const chosen = square.dataset.name === model.get("well");
      square.tabIndex = chosen ? 0 : -1;
      square.setAttribute("aria-selected", chosen);
      if (chosen && focus) square.focus();
    }
  }

  function choose(square) {
    if (!square || square.ariaDisabled) return;
    model.set("well", square.dataset.name);
    model.save_changes();
    mark(true);
  }

  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  grid.addEventListener("click", (event) => choose(event.target.closest("[data-name]")));
  grid.addEventListener("keydown", (event) => {
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation(); // JupyterLab moves between cells by the same keys
    let [row, column] = [Number(event.target.dataset.row), Number(event.target.dataset.column)];
    let next; // the nearest well with fields in this direction
    do next = places.get(`${(row += step[0])},${(column += step[1])}`);
    while (next && next.ariaDisabled);
    choose(next);
  });
  model.on("change:plate", draw);
  model.on("change:well", () => mark(grid.contains(document.activeElement)));
  draw();
}

export default { render };
