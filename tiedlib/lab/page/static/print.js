/* Turns the one page of a book (Sphinx's builder `singlehtml`) into a page that prints well: title page, contents, chapters, figures that
   stand still. Run by tiedlib/lab/page/pdf.py in the browser that prints, never in a reader's. */
window.tiedlibPrint = (() => {
  "use strict";
  const LEADS = "tl-leads-to-"; // as in single.py
  const slug = (name) => name.replace(/[^\p{L}\p{N}_]+/gu, "-");
  const make = (tag, className, text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
  const quoted = (text) => `"${text.replace(/["\\]/g, "\\$&")}"`;
  const title = (heading) => {
    const copy = heading.cloneNode(true);
    copy.querySelectorAll(".headerlink").forEach((e) => e.remove());
    return copy.textContent.trim();
  };

  /* Each page of the book as a chapter of its own, in order; the pages below the first are raised by one level of headings. */
  const split = (article) => {
    const found = [];
    const chapter = (name, content, part) => {
      const box = make("div", "tl-chapter");
      box.append(...content);
      found.push({ box, part, document: slug(name) });
    };
    const partOf = (mark) => {
      for (let at = mark; (at = at.parentElement?.closest(".toctree-wrapper")); ) {
        const part = at.querySelector(":scope > .tl-part");
        if (part) return part.textContent;
      }
      return "";
    };
    const marks = [...article.querySelectorAll("span[id^='document-']")].map((mark) => [mark, partOf(mark)]);
    chapter("", [...article.childNodes], "");
    for (const [mark, part] of marks) {
      const content = [mark];
      for (let next = mark.nextElementSibling; next && !next.id.startsWith("document-"); next = next.nextElementSibling) content.push(next);
      chapter(mark.id.replace("document-", ""), content, part);
    }
    found[0].box.id = "tl-first";
    article.append(...found.map(({ box }) => box));
    for (const { box } of found) box.querySelectorAll(".tl-part, .toctree-wrapper:not(:has(*))").forEach((e) => e.remove());
    for (const { box } of found.slice(1)) {
      for (const old of box.querySelectorAll("h2, h3, h4, h5, h6")) {
        const raised = document.createElement(`h${old.tagName[1] - 1}`);
        for (const { name, value } of old.attributes) raised.setAttribute(name, value);
        raised.append(...old.childNodes);
        old.replaceWith(raised);
      }
    }
    return found;
  };

  /* Two chapters may hold the same id: the later one gets a new id, and every link leads where its author meant. */
  const link = (chapters) => {
    const taken = new Set(), names = new Map();
    for (const { box, document: name } of chapters) {
      const renamed = new Map();
      for (const element of box.querySelectorAll("[id]:not(svg *)")) {
        const old = element.id;
        if (renamed.has(old)) continue; // a page that repeats its own id: the first one counts
        if (taken.has(old)) element.id = `${name}--${old}`;
        taken.add(element.id);
        renamed.set(old, element.id);
      }
      names.set(name, renamed);
    }
    const dead = [];
    for (const { box, document: name } of chapters) {
      for (const a of box.querySelectorAll("a[href]:not(.headerlink)")) {
        const href = a.getAttribute("href");
        if (!href.startsWith("#")) {
          if (new URL(a.href).protocol === "file:") a.removeAttribute("href"); // a file beside the page: the PDF has none
          continue;
        }
        const id = decodeURIComponent(href.slice(1));
        const page = [...a.classList].find((c) => c.startsWith(LEADS))?.slice(LEADS.length);
        const to = names.get(page)?.get(id) ?? names.get(name).get(id) ?? (taken.has(id) ? id : null);
        if (to !== null) a.setAttribute("href", `#${to}`);
        else if (id.startsWith("document-")) a.setAttribute("href", `#${chapters[0].box.id}`); // the first page has no mark of its own
        else {
          dead.push(href);
          a.removeAttribute("href");
        }
      }
    }
    return dead;
  };

  /* Folded text is opened, but for the input of cells whose author hid it. */
  const unfold = (article) => {
    for (const fold of article.querySelectorAll("details")) {
      const hidden = fold.classList.contains("hide") && !fold.querySelector(".cell_output");
      if (hidden) fold.remove();
      else fold.open = true;
    }
    for (const box of article.querySelectorAll(".toggle-hidden, .toggle")) box.classList.remove("toggle-hidden");
    for (const line of article.querySelectorAll("details.hide > summary, .toggle-button, .tl-claims-filter")) line.remove();
    for (const entry of article.querySelectorAll(".tl-claim")) entry.hidden = false;
  };

  /* A hatched bar would be printed as a picture, a megabyte for a few of them: the tiles of its pattern are drawn instead. */
  const hatch = (plot) => {
    for (const shape of plot.querySelectorAll("svg path, svg rect")) {
      const id = /url\(.*#([^"')]+)/.exec(shape.style.fill)?.[1], pattern = id && document.getElementById(id);
      if (pattern?.tagName !== "pattern") continue;
      const scale = pattern.patternTransform.baseVal.consolidate()?.matrix.a ?? 1, box = shape.getBBox();
      const [width, height] = [pattern.width.baseVal.value * scale, pattern.height.baseVal.value * scale];
      const [left, top] = [Math.floor(box.x / width), Math.floor(box.y / height)];
      const [right, bottom] = [Math.ceil((box.x + box.width) / width), Math.ceil((box.y + box.height) / height)];
      if (!((right - left) * (bottom - top) <= 5000)) continue;
      const svg = (tag) => document.createElementNS("http://www.w3.org/2000/svg", tag);
      const clip = svg("clipPath"), tiles = svg("g"), ground = pattern.querySelector("rect");
      clip.id = `tl-clip-${id}-${document.querySelectorAll("clipPath[id^=tl-clip]").length}`;
      clip.appendChild(shape.cloneNode(true)).removeAttribute("transform");
      if (shape.hasAttribute("transform")) tiles.setAttribute("transform", shape.getAttribute("transform"));
      for (let i = left; i < right; i++)
        for (let j = top; j < bottom; j++) {
          const tile = tiles.appendChild(svg("g"));
          tile.setAttribute("transform", `translate(${i * width} ${j * height}) scale(${scale})`);
          tile.append(...[...pattern.children].filter((e) => e !== ground).map((e) => e.cloneNode(true)));
        }
      tiles.setAttribute("clip-path", `url(#${clip.id})`);
      shape.style.fill = ground ? getComputedStyle(ground).fill : "none";
      shape.after(clip, tiles);
    }
  };

  const draw = async (article) => {
    const failed = [];
    for (const element of article.querySelectorAll(".tl-figure")) {
      const figure = element.tiedlib;
      await figure?.near();
      figure?.stop();
      const played = figure?.button && figure.controls.find((c) => c.input.parentElement.contains(figure.button));
      if (played) { // what plays in the page is shown at its end
        figure.set(played, played.texts.length - 1);
        await figure.draw();
      }
      if (!element.querySelector(".main-svg") || element.classList.contains("tl-failed")) failed.push(element.id);
      hatch(element);
      const state = (figure?.controls ?? []).map((c) => `${c.label}: ${c.texts[figure.index(c)]}`).join(", ");
      if (state) element.append(make("p", "tl-state", `Drawn at ${state}.`));
      element.querySelectorAll(".tl-controls, .tl-table-button, .tl-table, .tl-live").forEach((e) => e.remove());
    }
    return failed;
  };

  const front = (article, author, { licence, printed }) => {
    const page = make("div", "tl-title-page"), [name, ...rest] = document.title.split(/:\s+/);
    page.append(make("p", "tl-book", name));
    if (rest.length) page.append(make("p", "tl-subtitle", rest.join(": ")));
    const lead = article.querySelector(".tl-lead");
    const sentence = lead?.textContent ?? document.querySelector("meta[name=description]")?.content ?? "";
    lead?.remove();
    if (sentence) page.append(make("p", "tl-sentence", sentence.trim()));
    const how = "Every figure stands as the web page first shows it, one that plays at its end; there they move. Code that the web page folds away is left out.";
    for (const line of [author, printed, licence, article.querySelector(".tl-figure") && how])
      if (line) page.append(make("p", "tl-imprint", line));
    return page;
  };

  const contents = (chapters) => {
    const nav = make("nav", "tl-contents"), list = make("ol", "");
    nav.setAttribute("aria-label", "Contents");
    nav.append(make("h1", "", "Contents"), list);
    let last = "", count = 0;
    for (const { box, part } of chapters) {
      if (part && part !== last) list.append(make("li", "tl-part-name", part));
      last = part || last;
      for (const heading of box.querySelectorAll("h1, h2")) {
        const target = heading.closest("section") ?? heading;
        target.id ||= `tl-heading-${++count}`;
        const entry = make("li", `tl-level-${heading.tagName[1]}`), a = make("a", "", title(heading));
        a.href = `#${target.id}`;
        a.append(make("span", "tl-dots"), make("span", "tl-number", "000"));
        entry.append(a);
        list.append(entry);
      }
    }
    return nav;
  };

  /* What is wider than the paper is made smaller, formulas above all; returns what still is too wide. */
  const fit = (article) => {
    const edge = article.getBoundingClientRect().right + 1, wide = [];
    for (const box of article.querySelectorAll("mjx-container[display=true], table, pre, img")) {
      const width = Math.max(box.scrollWidth, box.firstElementChild?.scrollWidth ?? 0, box.getBoundingClientRect().width);
      const room = edge - box.getBoundingClientRect().left;
      if (width > room) box.style.zoom = Math.max(0.5, (room / width) * 0.99);
      if (box.getBoundingClientRect().right > edge + 1) wide.push(`${box.tagName.toLowerCase()} “${box.textContent.trim().slice(0, 40)}”`);
    }
    return wide;
  };

  return {
    async prepare(options) {
      const html = document.documentElement, article = document.querySelector("article.bd-article");
      html.dataset.theme = html.dataset.mode = "light";
      await window.MathJax?.startup?.promise; // a book whose formulas are typeset by the browser
      const author = document.querySelector(".component-author")?.textContent.trim() ?? "";
      const page = front(article, author, options);
      const chapters = split(article);
      const dead = link(chapters);
      unfold(article);
      const heads = chapters.map(({ box, part }, i) => {
        const heading = box.querySelector("h1"), name = heading ? title(heading) : "";
        box.style.page = `tl-chapter-${i}`;
        return `@page tl-chapter-${i} { @top-left { content: ${quoted(name)} } @top-right { content: ${quoted(part)} } }`;
      });
      document.head.append(make("style", "", heads.join("\n")));
      article.prepend(page, contents(chapters));
      for (let at = article; at !== document.body; at = at.parentElement) at.parentElement.replaceChildren(at);
      await document.fonts.ready;
      const failed = await draw(article);
      const figures = article.querySelectorAll(".tl-figure").length;
      return { author, dead, failed, wide: fit(article), chapters: chapters.length, figures };
    },
    targets: () => [...document.querySelectorAll(".tl-contents a")].map((a) => a.getAttribute("href").slice(1)),
    number(pages) {
      document.querySelectorAll(".tl-contents .tl-number").forEach((e, i) => { e.textContent = pages[i]; });
    },
  };
})();
