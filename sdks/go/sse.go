package helixflow

import "bytes"

// eventDecoder reads server-sent events from bytes that come in any pieces. It knows no network and no JSON, and no
// text either: a line ends with LF, CR or both, so characters that are split or that only look like an end are safe.
type eventDecoder struct {
	buffer  []byte // what has come and makes no line yet
	scanned int    // bytes of buffer known to hold no end of line
	afterCR bool   // an LF that comes next belongs to the CR before
	begun   bool   // the place for a byte order mark is behind
	data    []byte
	hasData bool
}

var byteOrderMark = []byte("\xef\xbb\xbf")

func (d *eventDecoder) push(piece []byte) { d.buffer = append(d.buffer, piece...) }

// next is the data of the next whole event; false until more has come.
func (d *eventDecoder) next() ([]byte, bool) {
	for {
		line, ok := d.line()
		if !ok {
			return nil, false
		}
		if len(line) > 0 {
			d.field(line)
			continue
		}
		data := d.data
		d.data, d.hasData = nil, false
		if len(data) > 0 {
			return data, true
		}
	}
}

// rest is the data of an event that the end of the stream cut off.
func (d *eventDecoder) rest() []byte {
	if len(d.buffer) > 0 {
		d.field(d.buffer)
	}
	return d.data
}

func (d *eventDecoder) line() ([]byte, bool) {
	if d.afterCR && len(d.buffer) > 0 {
		d.afterCR = false
		if d.buffer[0] == '\n' {
			d.buffer = d.buffer[1:]
		}
	}
	at := bytes.IndexAny(d.buffer[d.scanned:], "\r\n")
	if at < 0 {
		d.scanned = len(d.buffer)
		return nil, false
	}
	at += d.scanned
	line := d.buffer[:at]
	d.afterCR = d.buffer[at] == '\r'
	d.buffer, d.scanned = d.buffer[at+1:], 0
	if !d.begun {
		d.begun = true
		line = bytes.TrimPrefix(line, byteOrderMark)
	}
	return line, true
}

func (d *eventDecoder) field(line []byte) {
	name, value, _ := bytes.Cut(line, []byte(":"))
	if string(name) != "data" { // a comment has an empty name
		return
	}
	if d.hasData {
		d.data = append(d.data, '\n')
	}
	d.data = append(d.data, bytes.TrimPrefix(value, []byte(" "))...)
	d.hasData = true
}
