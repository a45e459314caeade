package helixflow

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// batchEntry is one request of a batch, written once.
type batchEntry struct {
	customID string
	body     json.RawMessage
}

type batchable interface {
	json.Marshaler
	customID() string
}

func (r ChatCompletionRequest) customID() string { return r.CustomID }
func (r CompletionRequest) customID() string     { return r.CustomID }
func (r EmbeddingRequest) customID() string      { return r.CustomID }

func entriesOf[T batchable](requests []T) ([]batchEntry, error) {
	entries := make([]batchEntry, 0, len(requests))
	for _, request := range requests {
		body, err := request.MarshalJSON()
		if err != nil {
			return nil, err
		}
		entries = append(entries, batchEntry{request.customID(), body})
	}
	return entries, nil
}

// inline is the entry as a batch without a file has it: its body, with its name.
func (e batchEntry) inline() (json.RawMessage, error) {
	if e.customID == "" {
		return e.body, nil
	}
	return marshalWith(e.body, map[string]any{"custom_id": e.customID})
}

// linesOf is the input file of a batch: a JSON object a line.
func linesOf(entries []batchEntry, endpoint string) ([]byte, error) {
	var lines bytes.Buffer
	encoder := json.NewEncoder(&lines)
	for index, entry := range entries {
		line := struct {
			CustomID string          `json:"custom_id"`
			Method   string          `json:"method"`
			URL      string          `json:"url"`
			Body     json.RawMessage `json:"body"`
		}{entry.customID, "POST", endpoint, entry.body}
		if line.CustomID == "" {
			line.CustomID = fmt.Sprintf("request-%d", index+1)
		}
		if err := encoder.Encode(line); err != nil {
			return nil, err
		}
	}
	return lines.Bytes(), nil
}
