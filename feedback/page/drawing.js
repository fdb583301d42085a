// The drawing area: strokes on a picture, with brush, closed outline and eraser, by mouse, pen, finger or keyboard.
// A drawing is a list of {tool, width, points}, positions as shares of width and height, width as a share of the longer side.
(() => {
  const drawings = {}; // by the area's data-key, so that hiding and showing the area loses nothing
  const BLUE = "#0072B2";

  function paint(area) {
    const { canvas, state } = area;
    const pen = canvas.getContext("2d");
    const longer = Math.max(canvas.width, canvas.height);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    for (const stroke of state.strokes) {
      const points = stroke.points.map(([x, y]) => [x * canvas.width, y * canvas.height]);
      pen.globalCompositeOperation = stroke.tool === "eraser" ? "destination-out" : "source-over";
      pen.strokeStyle = pen.fillStyle = BLUE;
      pen.lineCap = pen.lineJoin = "round";
      pen.lineWidth = stroke.tool === "outline" ? 3 : stroke.width * longer;
      pen.beginPath();
      points.forEach(([x, y], k) => (k ? pen.lineTo(x, y) : pen.moveTo(x, y)));
      if (points.length === 1) pen.lineTo(points[0][0] + 0.01, points[0][1]);
      pen.stroke();
      if (stroke.tool === "outline" && stroke !== area.current) pen.fill();
    }
    pen.globalCompositeOperation = "source-over";
    if (document.activeElement === canvas && area.byKeys) {
      const [x, y] = [state.cursor[0] * canvas.width, state.cursor[1] * canvas.height];
      pen.strokeStyle = "#000"; pen.lineWidth = 2;
      pen.strokeRect(x - 6, y - 6, 12, 12);
    }
  }

  function begin(area, point) {
    area.current = { tool: area.state.tool, width: area.state.width, points: [point] };
    area.state.strokes.push(area.current);
  }

  function extend(area, point) {
    const last = area.current.points.at(-1);
    if (Math.hypot(point[0] - last[0], point[1] - last[1]) > 0.002) area.current.points.push(point);
  }

  function setUp(box) {
    const canvas = box.querySelector("canvas");
    const empty = () => ({ strokes: [], tool: "brush", width: 0.06, cursor: [0.5, 0.5] });
    const state = (drawings[box.dataset.key] ??= empty());
    const area = { box, canvas, state, current: null, byKeys: false };
    const place = (event) => {
      const frame = canvas.getBoundingClientRect();
      return [(event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height];
    };
    const finish = () => { area.current = null; paint(area); };

    canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      event.preventDefault();
      canvas.focus({ preventScroll: true });
      canvas.setPointerCapture(event.pointerId);
      area.byKeys = false;
      begin(area, place(event));
      paint(area);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!area.current || area.byKeys) return;
      for (const one of event.getCoalescedEvents?.() ?? [event]) extend(area, place(one));
      extend(area, place(event));
      paint(area);
    });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { if (!area.byKeys) finish(); });

    canvas.addEventListener("keydown", (event) => {
      const step = event.shiftKey ? 0.05 : 0.01;
      const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
      if (move) {
        state.cursor = state.cursor.map((value, k) => Math.min(1, Math.max(0, value + move[k])));
        if (area.current) extend(area, state.cursor);
      } else if (event.key === " " || event.key === "Enter") {
        if (area.current) area.current = null;
        else begin(area, state.cursor);
      } else return;
      event.preventDefault();
      area.byKeys = true;
      paint(area);
    });
    for (const name of ["focus", "blur"]) canvas.addEventListener(name, () => { if (name === "blur") finish(); else paint(area); });

    const tools = [...box.querySelectorAll("[data-tool]")];
    const press = () => tools.forEach((one) => one.setAttribute("aria-pressed", String(one.dataset.tool === state.tool)));
    tools.forEach((one) => one.addEventListener("click", () => { state.tool = one.dataset.tool; press(); }));
    box.querySelector("[data-back]").addEventListener("click", () => { state.strokes.pop(); finish(); });
    box.querySelector("[data-clear]").addEventListener("click", () => { state.strokes.length = 0; finish(); });
    const width = box.querySelector("[data-width]");
    width.value = Math.round(state.width * 100);
    width.addEventListener("input", () => { state.width = Number(width.value) / 100; });
    press();
    paint(area);
  }

  // What the page sends when a button that needs the drawing is pressed.
  window.feedbackDrawing = () => {
    const box = document.querySelector(".drawing");
    if (!box) return "";
    const round = (value) => Math.round(value * 1e5) / 1e5;
    const strokes = drawings[box.dataset.key]?.strokes ?? [];
    const exact = strokes.map((one) => ({ ...one, points: one.points.map((point) => point.map(round)) }));
    return JSON.stringify({ image: box.dataset.image, strokes: exact });
  };

  const prepare = () => {
    for (const box of document.querySelectorAll(".drawing:not([data-ready])")) {
      box.dataset.ready = "1";
      setUp(box);
    }
    // Screen readers hear what changes below the button that was pressed.
    for (const id of ["message", "outcome"]) {
      const part = document.getElementById(id);
      if (part && !part.hasAttribute("aria-live")) {
        part.setAttribute("role", "status");
        part.setAttribute("aria-live", "polite");
      }
    }
  };
  new MutationObserver(prepare).observe(document.documentElement, { childList: true, subtree: true });
})();
