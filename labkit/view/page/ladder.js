// A ladder that can be read, filtered and opened row by row. Rows come from the kernel; only those in sight are drawn.
// A row of a message: [place, number, time_s, source, target, group, flags, words, small words]; of a silence: [seconds].

let views = 0;

class Ladder extends Drawer {
  constructor(model, el) {
    super();
    this.model = model;
    this.name = `lk${++views}-${Math.random().toString(36).slice(2, 7)}`;
    this.rows = [];       // all rows, as they came
    this.shown = [];      // indexes of the rows that pass the filter
    this.drawn = new Map();
    this.hints = new Map();
    this.paused = false;
    this.follow = true;
    this.build(el);
    this.take({ from: 0, rows: model.get("rows") });
    this.listen();
    if (model.get("live").running !== undefined) model.send({ type: "rows", from: this.rows.length });
  }

  // ---- the page ----

  build(el) {
    const live = this.model.get("live").running !== undefined;
    el.innerHTML = `
      <div class="lk ${live ? "lk-live" : ""}">
        <div class="lk-picture">
          <div class="lk-title"></div>
          <div class="lk-tools">
            <label>protocol <select class="lk-protocol"></select></label>
            <label>node <select class="lk-node"></select></label>
            <label>call <select class="lk-call"></select></label>
            <button class="lk-pause" aria-pressed="false" title="hold the picture; packets are still collected">pause</button>
            <button class="lk-follow" aria-pressed="true" title="keep the newest message in sight">follow</button>
          </div>
          <div class="lk-counts" role="status" aria-live="off"></div>
          <div class="lk-names" aria-hidden="true"></div>
          <div class="lk-rows" role="listbox" tabindex="0" aria-label="ladder"><div class="lk-space"></div></div>
          <div class="lk-streams"></div>
        </div>
        <div class="lk-side" role="region" aria-label="the message that is open">
          <div class="lk-steps">
            <button class="lk-before" title="the message before">&#8249;</button>
            <button class="lk-after" title="the next message">&#8250;</button>
            <span class="lk-which"></span>
          </div>
          <div class="lk-message"></div>
        </div>
        <div class="lk-hint" role="tooltip" hidden></div>
      </div>`;
    const part = name => el.querySelector(`.lk-${name}`);
    for (const name of ["title", "tools", "protocol", "node", "call", "pause", "follow", "counts", "names", "rows", "space",
      "streams", "side", "which", "message", "hint", "before", "after", "picture"]) this[`$${name}`] = part(name);
    this.$title.textContent = this.model.get("title");
    this.$title.hidden = !this.model.get("title");
  }

  listen() {
    const { model } = this;
    this.heard = {
      "change:place": () => this.openedElsewhere(),
      "change:shown": () => this.showMessage(),
      "msg:custom": message => this.told(message),
      "change:live": () => this.showLive(),
    };
    for (const [event, hear] of Object.entries(this.heard)) model.on(event, hear);
    this.$rows.addEventListener("scroll", () => this.scrolled());
    this.$rows.addEventListener("keydown", event => this.key(event));
    this.$rows.addEventListener("click", event => this.open(this.placeAt(event)));
    this.$rows.addEventListener("mousemove", event => this.point(event));
    this.$rows.addEventListener("mouseleave", () => this.unpoint());
    this.$before.addEventListener("click", () => this.step(-1));
    this.$after.addEventListener("click", () => this.step(1));
    for (const select of [this.$protocol, this.$node, this.$call]) select.addEventListener("change", () => this.filter());
    this.$pause.addEventListener("click", () => this.pause(!this.paused));
    this.$follow.addEventListener("click", () => this.setFollow(!this.follow));
    this.watch = new ResizeObserver(() => { if (this.$rows.clientWidth !== this.width) this.redraw(); });
    this.watch.observe(this.$rows);
    this.showLive();
    this.showMessage();
    this.openedElsewhere();
  }

  remove() {
    this.watch.disconnect();
    for (const [event, hear] of Object.entries(this.heard)) this.model.off(event, hear);
  }

  // ---- rows ----

  told(message) {
    if (message.type === "rows") {
      if (message.from > this.rows.length) this.model.send({ type: "rows", from: this.rows.length });
      else this.take(message);
    } else if (message.type === "hint") {
      this.hints.set(message.place, message.lines);
      if (this.pointed === message.place) this.showHint();
    }
  }

  take({ from, rows, nodes, groups, calls, order }) {
    if (nodes) this.fresh = { nodes, groups, calls, order };
    const names = this.names();
    const further = rows.slice(this.rows.length - from);
    for (const row of further) this.rows.push(row);
    const place = JSON.stringify(names);
    if (place !== this.place) { this.place = place; this.options(); }
    if (String(names.order) !== this.order) { this.order = String(names.order); this.relay = true; }
    if (!this.paused) this.show(this.rows.length - further.length);
    else this.countHidden();
  }

  names() {
    const { model } = this;
    this.fresh ??= {
      nodes: model.get("nodes"), groups: model.get("groups"), calls: model.get("calls"), order: [...model.get("nodes").keys()],
    };
    return this.fresh;
  }

  show(from) {
    const passes = this.passing();
    for (let index = from; index < this.rows.length; index++) if (passes(this.rows[index])) this.shown.push(index);
    this.held = this.rows.length;
    this.later();
  }

  passing() {
    const protocol = this.$protocol.value, node = this.$node.value, call = this.$call.value;
    if (!protocol && !node && !call) return () => true;
    const { nodes, groups } = this.names();
    const wanted = nodes.indexOf(node);
    return row => row.length > 1
      && (!protocol || protocolOf(groups[row[5]]) === protocol)
      && (!node || row[3] === wanted || row[4] === wanted)
      && (!call || groups[row[5]] === call);
  }

  filter() {
    this.shown = [];
    this.held = this.paused ? this.held : this.rows.length;
    const passes = this.passing();
    for (let index = 0; index < this.held; index++) if (passes(this.rows[index])) this.shown.push(index);
    this.redraw();
  }

  options() {
    const { nodes, groups, calls } = this.names();
    const found = groups.filter(group => group.startsWith("call-"));
    const protocols = [...new Set(groups.map(protocolOf))];
    choices(this.$protocol, protocols.map(name => [name, name]));
    choices(this.$node, nodes.map(name => [name, name]));
    choices(this.$call, found.map(name => [name, calls[name] ? `${name}  ${calls[name].slice(0, 24)}` : name]));
  }

  pause(paused) {
    this.paused = paused;
    this.$pause.setAttribute("aria-pressed", paused);
    if (!paused) this.show(this.held);
    this.countHidden();
  }

  countHidden() {
    const hidden = this.paused ? this.rows.length - this.held : 0;
    this.$pause.textContent = hidden ? `paused, ${hidden} more` : this.paused ? "paused" : "pause";
  }

  setFollow(follow) {
    this.follow = follow;
    this.$follow.setAttribute("aria-pressed", follow);
    this.later();
  }

  // ---- drawing ----

  later() { this.waiting ??= requestAnimationFrame(() => { this.waiting = undefined; this.draw(); }); }

  redraw() {
    for (const drawn of this.drawn.values()) drawn.remove();
    this.drawn.clear();
    this.later();
  }

  draw() {
    const count = this.shown.length, live = this.running !== undefined;
    if (this.$rows.clientWidth !== this.width || this.relay) {
      this.width = this.$rows.clientWidth;
      this.relay = false;
      for (const drawn of this.drawn.values()) drawn.remove();
      this.drawn.clear();
      this.nameNodes();
    }
    this.$space.style.height = `${count * ROW + 8}px`;
    this.$rows.style.height = `${Math.min(Math.max(count, 1) * ROW + 8, live ? LIVE_PX : MOST_PX)}px`;
    this.$rows.setAttribute("aria-label", `ladder of ${count} messages; arrow keys choose one`);
    this.$tools.hidden = !live && this.rows.length < 30;
    if (live && this.running && this.follow) this.$rows.scrollTop = this.ours = this.$rows.scrollHeight;
    const first = Math.max(0, Math.floor(this.$rows.scrollTop / ROW) - AHEAD);
    const last = Math.min(count, first + Math.ceil(this.$rows.clientHeight / ROW) + 2 * AHEAD);
    for (const [index, drawn] of this.drawn) {
      const at = Number(drawn.dataset.at);
      if (at < first || at >= last || this.shown[at] !== index) { drawn.remove(); this.drawn.delete(index); }
    }
    let html = "";
    const fresh = [];
    for (let at = first; at < last; at++) {
      const index = this.shown[at];
      if (!this.drawn.has(index)) { html += this.rowHtml(this.rows[index], at, index, count); fresh.push(index); }
    }
    if (html) {
      const holder = document.createElement("div");
      holder.innerHTML = html;
      fresh.forEach(index => this.drawn.set(index, holder.firstElementChild) && this.$space.append(holder.firstElementChild));
    }
    this.mark();
  }

  nameNodes() {
    const { nodes } = this.names();
    const { order } = this.names();
    const pitch = nodes.length > 1 ? this.x(order[1]) - this.x(order[0]) : 400;
    this.$names.innerHTML = nodes.map((name, node) =>
      `<span style="left:${this.x(node)}px;max-width:${pitch - 6}px" title="${safe(name)}">${safe(name)}</span>`).join("");
  }

  // ---- choosing ----

  placeAt(event) {
    const row = event.target.closest?.(".lk-row");
    return row?.dataset.place === undefined ? undefined : Number(row.dataset.place);
  }

  open(place) {
    if (place === undefined) return;
    this.$hint.hidden = true;
    this.model.set("place", place);
    this.model.save_changes();
    this.mark();
  }

  at(place) { return this.shown.findIndex(index => this.rows[index].length > 1 && this.rows[index][0] === place); }

  step(by, from = this.at(this.model.get("place"))) {
    const end = this.shown.length;
    let at = from < 0 ? (by > 0 ? 0 : end - 1) : from + by;
    at = Math.max(0, Math.min(at, end - 1));
    while (at > 0 && at < end - 1 && this.rows[this.shown[at]].length === 1) at += Math.sign(by);
    const row = this.rows[this.shown[at]];
    if (row?.length > 1) { this.open(row[0]); this.reveal(at); }
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.$rows.clientHeight / ROW) - 1), end = this.shown.length;
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -1, End: 1 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    this.setFollow(false);
    if (event.key === "Home") this.step(by, 1);
    else if (event.key === "End") this.step(by, end - 2);
    else this.step(by);
  }

  reveal(at) {
    const top = at * ROW, box = this.$rows;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top + ROW > box.scrollTop + box.clientHeight) box.scrollTop = top + ROW - box.clientHeight + 4;
    this.later();
  }

  openedElsewhere() {
    const at = this.at(this.model.get("place"));
    if (at >= 0) this.reveal(at);
    this.mark();
  }

  mark() {
    const place = this.model.get("place");
    for (const row of this.drawn.values()) {
      const open = row.dataset.place === String(place);
      row.classList.toggle("lk-open", open);
      if (row.dataset.place !== undefined) row.setAttribute("aria-selected", open);
    }
    if (place >= 0) this.$rows.setAttribute("aria-activedescendant", `${this.name}-${place}`);
    const at = this.at(place), row = this.rows[this.shown[at]];
    this.$which.textContent = row ? `${at + 1} of ${this.shown.length}` : "";
  }

  showMessage() { this.$message.innerHTML = this.model.get("shown"); }

  scrolled() {
    const box = this.$rows, end = box.scrollTop + box.clientHeight >= box.scrollHeight - 2 * ROW;
    if (this.running && this.follow !== end && Math.abs(box.scrollTop - (this.last ?? 0)) > 1) {
      if (box.scrollTop < (this.last ?? 0) - 1 || end) this.setFollow(end);
    }
    this.last = box.scrollTop;
    this.unpoint();
    this.later();
  }

  // ---- what the pointer shows ----

  point(event) {
    const place = this.placeAt(event);
    if (place === this.pointed) return;
    this.unpoint();
    this.pointed = place;
    if (place === undefined) return;
    this.spot = [event.clientX, event.clientY];
    this.timer = setTimeout(() => {
      if (!this.hints.has(place)) this.model.send({ type: "hint", place });
      this.showHint();
    }, 140);
  }

  unpoint() {
    clearTimeout(this.timer);
    this.pointed = undefined;
    this.$hint.hidden = true;
  }

  showHint() {
    const row = this.rows.find(one => one.length > 1 && one[0] === this.pointed);
    if (!row) return;
    const lines = this.hints.get(this.pointed) ?? [];
    this.$hint.innerHTML = `<div>${safe(this.sentence(row))}</div>` +
      lines.map(([name, value]) => `<div>${name ? `<b>${safe(name)}</b> ` : ""}${safe(value)}</div>`).join("");
    this.$hint.hidden = false;
    const box = this.$hint.getBoundingClientRect(), [x, y] = this.spot;
    this.$hint.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - box.width - 8))}px`;
    this.$hint.style.top = `${y + 18 + box.height > innerHeight ? y - box.height - 12 : y + 18}px`;
  }

  // ---- live ----

  showLive() {
    const live = this.model.get("live");
    this.running = live.running;
    this.$counts.hidden = this.$pause.hidden = this.$follow.hidden = live.running === undefined;
    if (live.running === undefined) return;
    const lost = live.lost ? `<b class="lk-refused">${NUMBER.format(live.lost)} packets lost</b>` : "no packet lost";
    this.$counts.innerHTML = `<b class="lk-lamp ${live.running ? "lk-on" : ""}">${live.running ? "live" : "ended"}</b>
      <span>${NUMBER.format(live.messages)} messages</span><span>${NUMBER.format(live.again)} retransmissions</span>
      <span>${NUMBER.format(live.rate)} messages/s</span><span>${lost}</span><span>${safe(live.note ?? "")}</span>`;
    this.$streams.innerHTML = live.streams.length ? `<table><thead><tr><th>RTP stream</th><th>packets/s</th><th>packets</th>
      <th>lost</th><th>jitter</th></tr></thead><tbody>${live.streams.map(stream => `<tr><td>${safe(stream.name)}</td>
      <td>${stream.rate.toFixed(0)}</td><td>${stream.packets}</td><td>${stream.lost}</td>
      <td>${stream.jitter_ms.toFixed(2)} ms</td></tr>`).join("")}</tbody></table>` : "";
    this.later();
  }
}

function choices(select, options) {
  const chosen = select.value;
  select.innerHTML = `<option value="">all</option>` +
    options.map(([value, text]) => `<option value="${safe(value)}">${safe(text)}</option>`).join("");
  select.value = options.some(([value]) => value === chosen) ? chosen : "";
}

export default {
  render({ model, el }) {
    const ladder = new Ladder(model, el);
    return () => ladder.remove();
  },
};
