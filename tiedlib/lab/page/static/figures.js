/* Figures that move with no kernel and no network. Each figure's states come from a script file beside the page and plotly.js
   from the book itself, both fetched when the figure comes near. Format of the states: tiedlib/lab/figures/states.py. */
(() => {
  "use strict";
  const html = document.documentElement;
  const base = new URL(html.dataset.content_root || "./", location.href).href;
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const GAP = 0xffffff, PLAY_SECONDS = 4, TABLE_ROWS = 2000;

  // ---- files, each fetched once ---------------------------------------------------------------------------------------
  const scripts = new Map(), arrivals = new Map();
  let queue = Promise.resolve(); // figures are drawn one after the other, and the page may breathe between them
  const pause = () => new Promise((done) => setTimeout(done));
  const load = (path) => {
    if (!scripts.has(path)) {
      scripts.set(path, new Promise((done, fail) => {
        const tag = document.createElement("script");
        tag.src = base + path;
        tag.onload = done;
        tag.onerror = () => fail(new Error(`${path} could not be loaded`));
        document.head.append(tag);
      }));
    }
    return scripts.get(path);
  };
  window.tiedlibStates = (key, text) => arrivals.set(key, text);

  const inflate = async (text) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const raw = await new Response(stream).arrayBuffer();
    const length = new DataView(raw).getUint32(0, true);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(raw, 4, length)));
    return { head, body: new Uint8Array(raw, 4 + length) };
  };

  // ---- states ---------------------------------------------------------------------------------------------------------
  const words = (body, at, size, planes, width = planes) => {
    const bytes = new Uint8Array(size * width);
    for (let plane = 0; plane < planes; plane++)
      for (let i = 0; i < size; i++) bytes[i * width + plane] = body[at + plane * size + i];
    return bytes.buffer;
  };
  const decode = (value, body) => {
    const size = value.shape.reduce((a, b) => a * b, 1);
    let out, shown;
    if (value.k === "q") {
      const deltas = new Uint32Array(words(body, value.at, size, 3, 4)), power = 10 ** value.digits;
      shown = value.digits;
      out = new Float64Array(size);
      for (let i = 0, level = 0; i < size; i++) {
        level = (level + deltas[i]) & GAP;
        out[i] = level === GAP ? NaN : (value.low + level) / power;
      }
    } else if (value.k === "f4") {
      out = Float64Array.from(new Float32Array(words(body, value.at, size, 4)), (v) => Number(v.toPrecision(7)));
    } else {
      out = new Float64Array(words(body, value.at, size, 8));
    }
    const nested = (array, [count, ...inner]) => {
      if (!inner.length) return Object.assign(array, { shown });
      const each = array.length / count;
      return Array.from({ length: count }, (_, k) => nested(array.subarray(k * each, (k + 1) * each), inner));
    };
    return nested(out, value.shape);
  };
  const packed = (value) => ArrayBuffer.isView(value) || (Array.isArray(value) && value.length > 0 && packed(value[0]));
  const copy = (value) => (value && typeof value === "object" && !packed(value) ? structuredClone(value) : value);

  class States {
    constructor({ head, body }) {
      this.head = head;
      this.body = body;
      this.known = new Map();
    }
    value(head) {
      if ("v" in head) return copy(head.v);
      if (!this.known.has(head)) this.known.set(head, decode(head, this.body));
      return this.known.get(head);
    }
    figure(state) {
      const result = { data: [], layout: {} };
      for (const [path, values, index] of this.head.leaves) {
        const at = index === null ? 0 : index[state];
        if (at < 0) continue;
        const value = values[at];
        if (path.length === 2 && path[0] === "data" && path[1] === "length") {
          while (result.data.length < value.v) result.data.push({});
          continue;
        }
        let node = result;
        for (const key of path.slice(0, -1)) node = node[key] ??= {};
        node[path[path.length - 1]] = this.value(value);
      }
      return result;
    }
  }

  /* What differs between two states, where it is no more than the places of points and bars on fixed axes and the title: these
     alone are then drawn anew, several times faster. Otherwise null. */
  const steppable = ({ type, visible, stackgroup, error_x, error_y, text, marker }) => visible === true && !stackgroup &&
    (type === "scatter" || type === "bar") && !error_x?.visible && !error_y?.visible && !listed(text) && !Object.values(marker ?? {}).some(listed);
  const listed = (value) => Array.isArray(value) || ArrayBuffer.isView(value);
  const lightChange = (states, from, to, plot) => {
    const traces = new Map();
    let title = null;
    for (const [path, values, index] of states.head.leaves) {
      if (index === null || index[from] === index[to]) continue;
      if (index[from] < 0 || index[to] < 0) return null;
      const [part, i, key] = path;
      if (path.join() === "layout,title,text" && !plot.classList.contains("tl-foreign")) { title = values[index[to]].v; continue; }
      if (part !== "data" || path.length !== 3 || (key !== "x" && key !== "y")) return null;
      const full = plot._fullData?.find((t) => t.index === i);
      if (!full || !steppable(full)) return null;
      const axis = full[`${key}axis`], { autorange, type } = plot._fullLayout[`${axis[0]}axis${axis.slice(1)}`];
      if (autorange !== false || type === "category") return null;
      if (!traces.has(i)) traces.set(i, {});
      traces.get(i)[key] = states.value(values[index[to]]);
    }
    return { traces, title };
  };

  // ---- themes ---------------------------------------------------------------------------------------------------------
  const theme = () => {
    const named = html.dataset.theme;
    if (named === "dark" || named === "light") return named;
    return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  };
  const swap = new Map(Object.entries(window.tiedlibThemes.swap));
  const triple = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)).join(",");
  const triples = new Map([...swap].map(([light, dark]) => [triple(light), triple(dark)]));
  const darkened = (text) => {
    if (text[0] === "#") return swap.get(text.toLowerCase()) ?? text;
    const match = /^(rgba?\()([\d\s]+,[\d\s]+,[\d\s]+)(.*)$/.exec(text);
    const found = match && triples.get(match[2].replace(/\s/g, ""));
    return found ? match[1] + found + match[3] : text;
  };
  const recolour = (value) => {
    if (typeof value === "string") return darkened(value);
    if (!value || typeof value !== "object" || ArrayBuffer.isView(value)) return value;
    for (const key of Object.keys(value)) value[key] = recolour(value[key]);
    return value;
  };
  const dressed = (figure, plot) => {
    const { layout } = figure, stock = layout.template === "tiedlib", now = theme();
    if (stock) {
      layout.template = window.tiedlibThemes.templates[now];
      if (now === "dark") {
        recolour(figure.data);
        const { template, ...rest } = layout;
        figure.layout = { ...recolour(rest), template };
      }
    }
    plot.classList.toggle("tl-foreign", !stock);
    const narrow = plot.clientWidth < 480, final = figure.layout;
    delete final.width;
    final.autosize = true;
    final.height = Number(plot.closest(".tl-figure").dataset.height);
    if (stock) { // the title stands above as text, where it can wrap
      delete final.title;
      if (final.margin?.t === undefined) final.margin = { ...final.margin, t: 44 };
    }
    if (narrow) {
      final.font = { ...final.font, size: Math.min(final.font?.size ?? 12, 12) };
      final.margin = { ...final.margin, l: Math.min(final.margin?.l ?? 44, 44), r: Math.min(final.margin?.r ?? 8, 8) };
    }
    if (matchMedia("(pointer: coarse)").matches) final.dragmode = false; // a thumb scrolls the page, it does not zoom
    return figure;
  };

  const titled = (layout) => (typeof layout.title === "string" ? layout.title : layout.title?.text) || "";
  const entitle = (element, text) => { // plotly's few tags, and nothing else, are tags
    const plain = text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
    const html = plain.replace(/&lt;(\/?(?:b|i|em|strong|sub|sup)|br\/?)&gt;/g, "<$1>");
    if (element && element.innerHTML !== html) element.innerHTML = html;
  };

  // ---- tables ---------------------------------------------------------------------------------------------------------
  const number = (v, shown) => { // as tiedlib.lab.figures.printed.text prints it
    if (v === null || v === undefined || Number.isNaN(v)) return "–";
    if (typeof v === "object") return texts(v).join(", ");
    if (typeof v !== "number") return String(v);
    const size = Math.abs(v), places = shown ?? -1;
    const power = (text) => { // without the noughts at its end, and with two digits in the exponent
      const [mantissa, exponent] = text.split("e");
      const short = mantissa.includes(".") ? mantissa.replace(/\.?0+$/, "") : mantissa;
      return exponent ? `${short}e${exponent.replace(/^([+-])(\d)$/, "$10$2")}` : short;
    };
    if (v === 0) return places > 0 && places <= 6 ? (0).toFixed(places) : "0";
    if (places >= 0) return power(size >= 1e-4 ? v.toFixed(places) : v.toExponential(String(Math.round(size * 10 ** places)).length - 1));
    if (size < 1e15 && (Number.isInteger(v) || size >= 1000)) return v.toFixed(0);
    return power(size < 1e-4 || size >= 1e15 ? v.toExponential(3) : v.toPrecision(4));
  };
  const texts = (values) => Array.from(values, (v) => number(v, values.shown));
  const list = (value) => typeof value === "object" && value?.length !== undefined;
  const column = (values) => { // names in several levels with all of them
    const rows = Array.from(values);
    if (!rows.length || !rows.every(list)) return texts(values);
    const levels = rows.map(texts);
    return Array.from({ length: Math.max(...levels.map((one) => one.length)) }, (_, k) => levels.map((one) => one[k] ?? "–").join(", "));
  };
  const places = (values, count) => { // of rows or columns of cells: their middles, or from edge to edge
    const said = column(values);
    return Array.from({ length: count }, (_, k) => (said.length === count + 1 ? `${said[k]} … ${said[k + 1]}` : said[k] ?? "–"));
  };
  const COLUMNS = ["x", "y", "z", "a", "b", "c", "q1", "median", "q3", "lowerfence", "upperfence", "mean", "sd"];
  const columned = (trace) => {
    const flat = trace.z?.length > 0 && !Array.from(trace.z).some(list);
    return flat || ["a", "b", "c", "q1"].some((key) => trace[key] !== undefined) ? COLUMNS.filter((key) => trace[key] !== undefined) : [];
  };
  const titleOf = (layout, axis, otherwise) => {
    const title = layout[axis[0] + "axis" + axis.slice(1)]?.title;
    return (typeof title === "string" ? title : title?.text) || otherwise;
  };
  const cell = (tag, text, scope) => {
    const element = document.createElement(tag);
    element.textContent = text;
    if (scope) element.scope = scope;
    return element;
  };
  const tableOf = (caption, heads, rows) => {
    const table = document.createElement("table");
    if (caption) table.createCaption().textContent = caption;
    table.createTHead().insertRow().append(...heads.map((h) => cell("th", h, "col")));
    const body = table.createTBody();
    for (const row of rows.slice(0, TABLE_ROWS))
      body.insertRow().append(cell("th", row[0] ?? "–", "row"), ...row.slice(1).map((text) => cell("td", text ?? "–")));
    return table;
  };
  const tables = ({ data, layout }) => { // as tiedlib.lab.page.figures.tables
    const found = [], groups = new Map();
    data.forEach((trace, i) => {
      const name = trace.name || titleOf(layout, trace.yaxis || "y", `series ${i + 1}`);
      const heads = columned(trace);
      if (heads.length) {
        const lines = heads.map((key) => column(trace[key])), length = Math.max(...lines.map((line) => line.length));
        found.push(tableOf(name, heads, Array.from({ length }, (_, i) => lines.map((line) => line[i] ?? "–"))));
        return;
      }
      if (trace.z) {
        const grid = Array.from(trace.z, (row) => texts(list(row) ? row : [row]));
        const widest = Math.max(0, ...grid.map((row) => row.length));
        const xs = places(trace.x ?? Array.from({ length: widest }, (_, j) => j), widest), ys = places(trace.y ?? grid.map((_, j) => j), grid.length);
        const corner = `${titleOf(layout, trace.yaxis || "y", "row")} \\ ${titleOf(layout, trace.xaxis || "x", "column")}`;
        found.push(tableOf(name, [corner, ...xs], grid.map((row, j) => [ys[j], ...Array.from({ length: widest }, (_, i) => row[i] ?? "–")])));
        return;
      }
      let y = column(trace.y ?? trace.values ?? []), x = column(trace.x ?? trace.labels ?? Array.from(y, (_, j) => j));
      let head = titleOf(layout, trace.xaxis || "x", "x"), said = name;
      if (!y.length && x.length) [said, head, x, y] = [trace.name || head, "number", x.map((_, j) => String(j + 1)), x];
      const same = JSON.stringify([head, ...x]);
      if (!groups.has(same)) groups.set(same, { head, x, series: [] });
      groups.get(same).series.push([said, y]);
    });
    for (const { head, x, series } of groups.values()) {
      const length = Math.max(x.length, ...series.map(([, y]) => y.length));
      const rows = Array.from({ length }, (_, i) => [x[i], ...series.map(([, y]) => y[i])]);
      found.push(tableOf("", [head, ...series.map(([name]) => name)], rows));
    }
    return found;
  };

  // ---- one figure -----------------------------------------------------------------------------------------------------
  class Figure {
    constructor(element) {
      this.element = element;
      element.tiedlib = this;
      this.plot = element.querySelector(".tl-plot");
      this.live = element.querySelector(".tl-live");
      this.title = element.querySelector(".tl-title");
      this.table = element.querySelector(".tl-table");
      this.controls = [...element.querySelectorAll("[data-texts]")].map((input) => ({
        input, texts: JSON.parse(input.dataset.texts), output: element.querySelector(`output[for="${input.id}"]`),
        label: (input.labels[0]?.textContent || "").trim(), values: JSON.parse(input.dataset.values || "null"),
      }));
      for (const control of this.controls) control.input.addEventListener("input", () => this.moved(control));
      this.button = element.querySelector(".tl-play");
      this.button?.addEventListener("click", () => (this.timer ? this.stop() : this.play()));
      const toggle = element.querySelector(".tl-table-button");
      toggle.addEventListener("click", () => {
        const open = toggle.getAttribute("aria-expanded") !== "true";
        toggle.setAttribute("aria-expanded", open);
        this.table.classList.toggle("tl-open", open);
        this.tabulate();
      });
    }
    index(control) {
      const { input, values } = control;
      if (input.type === "checkbox") return Math.max(values.indexOf(input.checked), 0);
      return input.type === "range" ? Number(input.value) : input.selectedIndex;
    }
    get state() {
      return this.controls.reduce((at, control) => at * control.texts.length + this.index(control), 0);
    }
    set(control, index) {
      const { input, values } = control;
      if (input.type === "checkbox") input.checked = values[index];
      else if (input.type === "range") input.value = index;
      else input.selectedIndex = index;
      this.moved(control, true);
    }
    moved(control, byPlay = false) {
      if (!byPlay) this.stop();
      const text = control.texts[this.index(control)];
      if (control.output) {
        control.output.textContent = text;
        control.input.setAttribute("aria-valuetext", text);
      }
      if (!this.frame) this.frame = requestAnimationFrame(() => { this.frame = 0; this.draw(); });
      clearTimeout(this.announcing);
      if (!this.timer) this.announcing = setTimeout(() => this.announce(), 500);
    }
    announce() {
      this.live.textContent = this.controls.map((c) => `${c.label}: ${c.texts[this.index(c)]}`).join(", ");
    }
    async near() {
      if (this.ready) return this.ready;
      this.ready = (async () => {
        const key = this.element.dataset.states;
        try {
          await Promise.all([load("_static/tiedlib/plotly.min.js"), load(`_static/states/${key}.js`)]);
          this.states = new States(await inflate(arrivals.get(key)));
          const turn = queue.then(pause).then(() => this.draw());
          queue = turn.catch(() => {}); // one figure's failure is not the next one's
          await turn;
        } catch (error) {
          this.element.classList.add("tl-failed");
          console.error(`figure ${this.element.id}: ${error.message}`);
        }
      })();
      return this.ready;
    }
    /* Draw the state of the controls; a call while another is at work is answered by one more round after it. */
    async draw() {
      if (!this.states) return;
      this.again = true;
      this.busy ??= (async () => {
        while (this.again) {
          this.again = false;
          await this.paint(this.state);
        }
      })().finally(() => { this.busy = null; });
      await this.busy;
    }
    async paint(state, whole = false) {
      const light = this.drawn && !whole && this.worn === theme() ? lightChange(this.states, this.shown, state, this.plot) : null;
      try {
        if (light) this.step(light);
        else await this.redraw(state);
      } catch (error) {
        if (!light) throw error;
        await this.redraw(state);
      }
      this.shown = state;
      this.element.dataset.drawn = state;
      clearTimeout(this.tabulating);
      this.tabulating = setTimeout(() => this.tabulate(), 250);
    }
    /* plotly's own modules, without what has not changed: defaults, axes, legend. These are its inner parts, and its version is
       pinned; where another version has other parts, the whole is drawn. */
    step({ traces, title }) {
      const { plot } = this, touched = new Set();
      if (title !== null && this.title) entitle(this.title, title);
      for (const [i, change] of traces) {
        const full = plot._fullData.find((trace) => trace.index === i);
        Object.assign(plot.data[i], change);
        Object.assign(full, change);
        full._length = Math.min(...[full.x?.length, full.y?.length].filter((n) => n !== undefined));
        touched.add(full._module);
      }
      plot._fullData.forEach((full, at) => { // all of a kind: a bar may stand on another
        if (!touched.has(full._module) || full.visible !== true) return;
        const points = full._module.calc(plot, full);
        points[0].t ??= {};
        points[0].trace = full;
        plot.calcdata[at] = points;
      });
      for (const panel of Object.values(plot._fullLayout._plots)) {
        for (const module of touched) {
          const mine = plot.calcdata.filter(([{ trace }]) => trace._module === module && trace.visible === true && trace.xaxis + trace.yaxis === panel.id);
          if (!mine.length) continue;
          module.crossTraceCalc?.(plot, panel);
          module.plot(plot, panel, mine, panel.plot.select(`.${module.layerName || `${module.name}layer`}`));
        }
      }
      for (const module of touched) module.style(plot);
    }
    async redraw(state) {
      const figure = this.states.figure(state);
      if (figure.layout.template === "tiedlib") {
        const text = titled(figure.layout);
        if (text && !this.title) {
          this.title = Object.assign(document.createElement("p"), { className: "tl-title" });
          this.plot.before(this.title);
        }
        entitle(this.title, text);
      }
      const { data, layout } = dressed(figure, this.plot);
      if (!this.drawn) {
        this.plot.textContent = "";
        this.plot.setAttribute("role", "img");
        this.plot.setAttribute("aria-label", this.plot.dataset.alt);
        this.drawn = true;
      }
      this.worn = theme();
      const options = { displayModeBar: false, responsive: true, showTips: false };
      try {
        await window.Plotly.react(this.plot, data, layout, options);
      } catch { // it keeps what it has computed of unchanged traces, and with some contour lines stumbles over it
        window.Plotly.purge(this.plot);
        await window.Plotly.newPlot(this.plot, data, layout, options);
      }
    }
    tabulate() {
      if (this.states && this.table.classList.contains("tl-open"))
        this.table.replaceChildren(...tables(this.states.figure(this.state)));
    }
    play() {
      const control = this.controls.find((c) => c.input.parentElement.contains(this.button));
      if (!control || !this.states) return;
      const last = control.texts.length - 1;
      if (this.index(control) >= last) this.set(control, 0);
      const pause = Math.min(600, Math.max(80, (1000 * PLAY_SECONDS) / control.texts.length));
      this.timer = setInterval(() => {
        const next = this.index(control) + 1;
        if (next <= last) this.set(control, next);
        if (next >= last) this.stop();
      }, calm.matches ? Math.max(600, pause) : pause);
      this.say("Pause");
    }
    stop() {
      if (!this.timer) return;
      clearInterval(this.timer);
      this.timer = 0;
      this.say("Play");
      this.announce();
    }
    say(word) {
      const label = this.button.getAttribute("aria-label").replace(/^\w+/, word);
      this.button.textContent = word;
      this.button.setAttribute("aria-label", label);
      this.button.classList.toggle("tl-playing", word === "Pause");
    }
  }

  // ---- the table of claims ----------------------------------------------------------------------------------------------
  const filterable = (box) => {
    const selects = [...box.querySelectorAll("[data-filter]")], count = box.querySelector(".tl-claims-count");
    const apply = () => {
      let shown = 0;
      for (const entry of box.querySelectorAll(".tl-claim")) {
        entry.hidden = !selects.every((s) => !s.value || entry.classList.contains(`tl-${s.dataset.filter}-${s.value}`));
        shown += !entry.hidden;
      }
      count.textContent = `${shown} statements`;
    };
    selects.forEach((select) => select.addEventListener("change", apply));
    apply();
  };
  const openTarget = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.tagName === "DETAILS") target.open = true;
  };

  /* A still picture needs no script. The first sign that somebody is there (a pointer, a finger, a key, a scroll) brings the figure
     that moves; until then plotly.js, which takes a phone a second to read, does not hold up the page. */
  const awake = new Promise((done) => {
    const signs = ["pointermove", "pointerdown", "touchstart", "keydown", "wheel", "scroll", "focusin"];
    const wake = ({ type, target }) => {
      if (type === "scroll" && target !== document) return; // the theme scrolls its side bar by itself
      for (const sign of signs) removeEventListener(sign, wake, true);
      done();
    };
    for (const sign of signs) addEventListener(sign, wake, { capture: true, passive: true });
  });

  // ---- start ------------------------------------------------------------------------------------------------------------
  const start = () => {
    const figures = [...document.querySelectorAll(".tl-figure")].map((element) => new Figure(element));
    const watch = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        watch.unobserve(target);
        if (target.querySelector(".tl-still")) awake.then(() => target.tiedlib.near());
        else target.tiedlib.near();
      }
    }, { rootMargin: "150px" });
    const playing = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries)
        if (isIntersecting && !calm.matches) { playing.unobserve(target); target.tiedlib.near().then(() => target.tiedlib.play()); }
    }, { threshold: 0.6 });
    figures.forEach(({ element }) => {
      watch.observe(element);
      if ("autoplay" in element.dataset) playing.observe(element);
    });
    let worn = theme();
    const redress = () => { if (worn !== theme()) { worn = theme(); figures.forEach((f) => f.draw()); } };
    new MutationObserver(redress).observe(html, { attributes: true, attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redress);
    addEventListener("beforeprint", () => figures.forEach((f) => f.near()));
    addEventListener("hashchange", openTarget);
    document.querySelectorAll(".tl-claims").forEach(filterable);
    openTarget();
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
