/** Server-sent events out of bytes, in whatever pieces these come. Pure. */

const LINE_END = /\r\n|\n|\r/; // and nothing else: JSON may hold U+2028

export class EventDecoder {
  #text = new TextDecoder(); // drops a byte order mark, keeps half a character for the next piece
  #line = "";
  #data: string[] = [];
  #afterCarriageReturn = false;

  /** The data of each event that `bytes` complete, and that has any. */
  push(bytes: Uint8Array): string[] {
    let text = this.#text.decode(bytes, { stream: true });
    if (text === "") return [];
    if (this.#afterCarriageReturn && text.startsWith("\n")) text = text.slice(1);
    this.#afterCarriageReturn = text.endsWith("\r");
    const lines = text.split(LINE_END);
    lines[0] = this.#line + lines[0];
    this.#line = lines.pop() as string;
    const events: string[] = [];
    for (const line of lines) {
      if (line !== "") this.#read(line);
      else {
        const data = this.#take();
        if (data !== "") events.push(data);
      }
    }
    return events;
  }

  /** The data of an event that the end of the stream left without its empty line. */
  end(): string {
    if (this.#line !== "") this.#read(this.#line);
    this.#line = "";
    return this.#take();
  }

  #take(): string {
    if (this.#data.length === 0) return "";
    const data = this.#data.join("\n");
    this.#data = [];
    return data;
  }

  #read(line: string): void {
    if (line.startsWith("data:")) this.#data.push(line.slice(line[5] === " " ? 6 : 5));
    else if (line === "data") this.#data.push("");
  }
}
