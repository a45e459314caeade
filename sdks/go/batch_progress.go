package helixflow

import (
	"fmt"
	"io"
	"os"
)

// progressLine is one line that is written again and again.
type progressLine struct {
	out  io.Writer
	open bool
}

// terminalProgress is nil if nobody could see it.
func terminalProgress() *progressLine {
	about, err := os.Stderr.Stat()
	if err != nil || about.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	return &progressLine{out: os.Stderr}
}

func (l *progressLine) show(batch *Batch) {
	counts := batch.RequestCounts
	fmt.Fprintf(l.out, "\r%s: %s, %d of %d done, %d failed\x1b[K",
		batch.ID, batch.Status, counts.Completed+counts.Failed, counts.Total, counts.Failed)
	l.open = true
}

// end has what is written next begin on a line of its own.
func (l *progressLine) end() {
	if l.open {
		fmt.Fprintln(l.out)
	}
	l.open = false
}
