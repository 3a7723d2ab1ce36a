/* What scrolls sideways inside itself (wide formulas and tables on a phone) can be reached by keyboard; what fits is no stop.
   An observer hears of a box when it is laid out, so that what lies far below is not laid out for this. The theme has a loop of its
   own for the same end, which lays out the whole page on arrival and after every change of a figure: it waits for the "load"
   event, and this script, which stands between Bootstrap's and the theme's, ends that event before it gets there. */
(() => {
  "use strict";
  addEventListener("load", (event) => { event.stopImmediatePropagation(); arrive(); });
  /* Who comes to a place far down: on the way parts are laid out and grow, so that the place moves. Aim until it stands still. */
  const arrive = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    let rounds = 12;
    const leave = () => { rounds = 0; };
    for (const sign of ["wheel", "touchstart", "pointerdown", "keydown"]) addEventListener(sign, leave, { once: true, passive: true });
    const aim = () => {
      if (rounds-- <= 0) return;
      const before = target.getBoundingClientRect().top;
      target.scrollIntoView({ behavior: "instant" });
      if (Math.abs(target.getBoundingClientRect().top - before) > 1 || rounds > 9) setTimeout(aim, 60);
    };
    aim();
  };
  const judge = (box) => {
    const scrolls = (way) => box[`scroll${way}`] > box[`client${way}`] + 1;
    if (scrolls("Width") || (scrolls("Height") && getComputedStyle(box).overflowY !== "hidden")) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  };
  /* A box keeps its size when what is in it grows: a formula that is typeset late, a web font that arrives after the first layout.
     So what is in it is watched too, and all are judged once more when fonts have come. */
  const boxes = [...document.querySelectorAll("div.math, mjx-container[display], .pst-scrollable-table-container, .tl-scroll, .cell_output > .output, pre")];
  const owner = (target) => (boxes.includes(target) ? target : target.parentElement);
  const watch = new ResizeObserver((entries) => new Set(entries.map(({ target }) => owner(target))).forEach((box) => box && judge(box)));
  for (const box of boxes) {
    watch.observe(box);
    for (const child of box.children) watch.observe(child);
  }
  document.fonts?.addEventListener("loadingdone", () => boxes.forEach((box) => box.checkVisibility?.({ contentVisibilityAuto: true }) !== false && judge(box)));
})();
