// How one row of a ladder looks, and where it stands.

const ROW = 31, LEFT = 96, AHEAD = 12, MOST_PX = 900, LIVE_PX = 560;
const AGAIN = 1, REFUSED = 2, STREAM = 4;
const FONT = "Inter, 'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', sans-serif";
const NUMBER = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

const safe = text => String(text).replace(/[&<>"']/g, c => `&#${c.charCodeAt(0)};`);
const clock = s => s < 0.99995 ? `${(s * 1000).toFixed(1)} ms` : `${s.toFixed(3)} s`;
const quiet = s => s < 0.9995 ? `${(s * 1000).toFixed(0)} ms` : `${s.toFixed(1)} s`;

const ruler = document.createElement("canvas").getContext("2d");
const widths = new Map();
function widthOf(text, font) {
  const key = font + text;
  if (!widths.has(key)) {
    if (widths.size > 5000) widths.clear();
    ruler.font = `${font} ${FONT}`;
    widths.set(key, ruler.measureText(text).width);
  }
  return widths.get(key);
}

// Draws rows for whoever has names() (nodes, their order, groups), a width, a model with a palette, and a name.
class Drawer {
  x(node) { // of a node's lifeline
    const { order } = this.names(), count = order.length;
    const room = this.width - LEFT - 12;
    return count > 1 ? LEFT + (order.indexOf(node) + 0.35) * room / (count - 0.3) : LEFT + room / 2;
  }

  inward(node) { // to which side a message to oneself leans
    const { order } = this.names();
    return order.length > 1 && node === order[order.length - 1] ? -1 : 1;
  }

  rowHtml(row, at, index, count) {
    const top = `top:${at * ROW}px`;
    const bars = this.names().nodes.map((_, node) => this.x(node));
    if (row.length === 1) {
      const dots = bars.map(x => `<path class="lk-bar" stroke-dasharray="2 3" d="M${x} 2V29"/>`).join("");
      return `<div class="lk-row" data-at="${at}" style="${top}" role="presentation"><svg width="${this.width}" height="${ROW}"
        aria-hidden="true">${dots}<text class="lk-faint" x="${(LEFT + this.width) / 2 + 12}" y="20">${quiet(row[0])} of silence</text></svg></div>`;
    }
    const [place, number, time, source, target, group, flags, words, small] = row;
    const lines = bars.map(x => `<path class="lk-bar" d="M${x} 0V${ROW}"/>`).join("");
    return `<div class="lk-row" id="${this.name}-${place}" data-at="${at}" data-place="${place}" style="${top}" role="option"
      aria-posinset="${at + 1}" aria-setsize="${count}" aria-label="${safe(this.sentence(row))}"><svg width="${this.width}"
      height="${ROW}" aria-hidden="true">${lines}<text class="lk-time" x="${LEFT - 38}" y="26">${clock(time)}</text>
      <text class="lk-number" x="${LEFT - 6}" y="26">${number ?? ""}</text>
      ${this.arrow(source, target, this.colour(group), flags)}${this.label(source, target, flags, words, small)}</svg></div>`;
  }

  colour(group) {
    const palette = this.model.get("palette"), name = this.names().groups[group];
    return palette[name] ?? palette.calls[group % palette.calls.length];
  }

  arrow(source, target, colour, flags) {
    const a = this.x(source), b = this.x(target), y = 23;
    const dash = flags & AGAIN ? `stroke-dasharray="5 4"` : "";
    const band = flags & STREAM ? `stroke-width="8" stroke-opacity=".4"` : "";
    if (source === target) {
      const way = -this.inward(source), out = a - 26 * way;
      return `<path class="lk-shaft" ${dash} stroke="${colour}" d="M${a} 14H${out}V${y}H${a - way * 7}"/>${head(a, y, way, colour)}`;
    }
    const way = Math.sign(b - a);
    return `<path class="lk-shaft" ${dash} ${band} stroke="${colour}" d="M${a} ${y}H${b - way * 8}"/>${head(b, y, way, colour)}`;
  }

  label(source, target, flags, words, small) {
    const main = (flags & REFUSED ? "✗ " : "") + words;
    const long = widthOf(main, "600 12px") + (small ? 8 + widthOf(small, "10.5px") : 0);
    let middle = (this.x(source) + this.x(target)) / 2;
    if (source === target) middle += this.inward(source) * (34 + long / 2);
    const x = Math.max(LEFT + 2, Math.min(middle - long / 2, this.width - long - 4));
    return `<text class="lk-label ${flags & REFUSED ? "lk-refused" : ""}" x="${x}" y="${source === target ? 20 : 15}"><tspan
      class="lk-main">${safe(main)}</tspan>${small ? `<tspan dx="8" class="lk-small">${safe(small)}</tspan>` : ""}</text>`;
  }

  sentence([, number, time, source, target, group, flags, words, small]) {
    const { nodes, groups } = this.names();
    return [`${number === null ? "" : `${number}. `}${nodes[source]} to ${nodes[target]}: ${words}`, small,
      protocolOf(groups[group]) === "SIP" ? groups[group] : "", flags & AGAIN ? "sent again" : "",
      flags & REFUSED ? "refused" : "", `at ${clock(time)}`].filter(Boolean).join(", ");
  }
}

const PROTOCOLS = { diameter: "Diameter", rtp: "RTP", evapi: "evapi", jsonrpc: "JSON-RPC" };

function protocolOf(group) { return PROTOCOLS[group] || "SIP"; }

function head(x, y, way, colour) { return `<path fill="${colour}" d="M${x} ${y}l${-way * 10} -5v10z"/>`; }
