// Answers as plain text, built of elements: nothing a model writes becomes HTML. Code between fences gets a box.

function parts(text) {
  const found = [];
  text.split(/^```(.*)$/m).forEach((piece, index) => {
    // Odd pieces are what stands beside a fence; every other fence opens.
    if (index % 2) return;
    const code = (index / 2) % 2 === 1;
    const plain = code ? piece.replace(/^\n|\n$/g, "") : piece.replace(/^\n+/, index ? "" : "$&").replace(/\n+$/, "\n");
    if (plain.trim() || code) found.push({ code, text: plain });
  });
  return found;
}

function make(code) {
  const block = document.createElement(code ? "pre" : "div");
  block.className = code ? "said__code" : "said__text";
  if (code) block.tabIndex = 0;
  return block;
}

/** Show `text` in `place`. Called again as it grows: only what changed is touched. */
export function paint(place, text) {
  const wanted = parts(text);
  wanted.forEach((part, index) => {
    let block = place.children[index];
    if (!block || (block.tagName === "PRE") !== part.code) {
      const made = make(part.code);
      if (block) block.replaceWith(made);
      else place.append(made);
      block = made;
    }
    if (block.textContent !== part.text) block.textContent = part.text;
  });
  while (place.children.length > wanted.length) place.lastElementChild.remove();
}

const SENTENCE = /[\s\S]*[.!?:\n](?=\s|$)/;
const LEAST = 60;

/** Reads a growing text to screen readers, some sentences at a time. */
export class Reader {
  constructor(region) {
    this.region = region;
    this.rest = "";
  }

  begin() {
    this.region.textContent = "";
    this.rest = "";
  }

  add(text) {
    this.rest += text;
    const [whole] = this.rest.match(SENTENCE) ?? [""];
    if (whole.length >= LEAST) this.say(whole);
  }

  say(text) {
    const line = document.createElement("p");
    line.textContent = text;
    this.region.append(line);
    this.rest = this.rest.slice(text.length);
  }

  end(last) {
    if (this.rest.trim()) this.say(this.rest);
    this.say(last);
    this.rest = "";
  }
}
