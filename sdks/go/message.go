package helixflow

import (
	"bytes"
	"encoding/json"
)

// Roles of messages.
const (
	RoleSystem    = "system"
	RoleDeveloper = "developer"
	RoleUser      = "user"
	RoleAssistant = "assistant"
	RoleTool      = "tool"
)

// Message is one of a conversation. An answer's can be put back into the next request as it is.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"-"`
	// MultiContent goes in place of Content where there is more than text.
	MultiContent []ContentPart `json:"-"`

	Name             string        `json:"name,omitempty"`
	ToolCalls        []ToolCall    `json:"tool_calls,omitempty"`
	ToolCallID       string        `json:"tool_call_id,omitempty"` // of a message of RoleTool
	FunctionCall     *FunctionCall `json:"function_call,omitempty"`
	Refusal          string        `json:"refusal,omitempty"`
	ReasoningContent string        `json:"reasoning_content,omitempty"`
	Audio            *Audio        `json:"audio,omitempty"`
	Annotations      []Annotation  `json:"annotations,omitempty"`

	Extra map[string]any `json:"-"` // fields that this version doesn't know, to be sent
}

// MarshalJSON writes content as a text, as parts, or as null where an assistant said something else.
func (m Message) MarshalJSON() ([]byte, error) {
	type plain Message
	wire := struct {
		plain
		Content any `json:"content"`
	}{plain: plain(m)}
	switch {
	case m.MultiContent != nil:
		wire.Content = m.MultiContent
	case m.Content != "" || (m.ToolCalls == nil && m.FunctionCall == nil && m.Audio == nil && m.Refusal == ""):
		wire.Content = m.Content
	}
	return marshalWith(wire, m.Extra)
}

// UnmarshalJSON reads all that MarshalJSON writes.
func (m *Message) UnmarshalJSON(data []byte) error {
	type plain Message
	wire := struct {
		*plain
		Content json.RawMessage `json:"content"`
	}{plain: (*plain)(m)}
	if err := json.Unmarshal(data, &wire); err != nil {
		return err
	}
	m.Content, m.MultiContent = "", nil
	switch {
	case len(wire.Content) == 0:
		return nil
	case wire.Content[0] == '[':
		return json.Unmarshal(wire.Content, &m.MultiContent)
	}
	return json.Unmarshal(wire.Content, &m.Content) // null leaves it empty
}

// ContentPart is a text, an image, a sound, a file or a refusal; Type says which.
type ContentPart struct {
	Type       string       `json:"type"` // text, image_url, input_audio, file, refusal
	Text       string       `json:"text,omitempty"`
	ImageURL   *ImageURL    `json:"image_url,omitempty"`
	InputAudio *InputAudio  `json:"input_audio,omitempty"`
	File       *FileContent `json:"file,omitempty"`
	Refusal    string       `json:"refusal,omitempty"`

	PromptCacheBreakpoint *CacheBreakpoint `json:"prompt_cache_breakpoint,omitempty"`
}

// TextPart is a part that is text.
func TextPart(text string) ContentPart { return ContentPart{Type: "text", Text: text} }

// ImagePart is an image at an address, which may be a data: URL.
func ImagePart(url string) ContentPart {
	return ContentPart{Type: "image_url", ImageURL: &ImageURL{URL: url}}
}

// ImageURL is where an image is.
type ImageURL struct {
	URL    string `json:"url"`
	Detail string `json:"detail,omitempty"` // auto, low, high, original
}

// InputAudio is a sound in base64.
type InputAudio struct {
	Data   string `json:"data"`
	Format string `json:"format"` // wav, mp3
}

// FileContent is a file, by its data or its id.
type FileContent struct {
	FileData string `json:"file_data,omitempty"`
	FileID   string `json:"file_id,omitempty"`
	Filename string `json:"filename,omitempty"`
}

// CacheBreakpoint ends what the provider is asked to cache.
type CacheBreakpoint struct {
	Mode string `json:"mode"` // explicit
	TTL  string `json:"ttl,omitempty"`
}

// ToolCall is a call that the model wants made. Index is that of a stream's pieces, which belong together by it.
type ToolCall struct {
	Index    *int         `json:"index,omitempty"`
	ID       string       `json:"id,omitempty"`
	Type     string       `json:"type,omitempty"` // function, custom
	Function FunctionCall `json:"function"`
	Custom   *CustomCall  `json:"custom,omitempty"`
}

// MarshalJSON leaves out the function of a custom tool's call.
func (t ToolCall) MarshalJSON() ([]byte, error) {
	type plain ToolCall
	if t.Custom == nil {
		return json.Marshal(plain(t))
	}
	return json.Marshal(struct {
		plain
		Function *FunctionCall `json:"function,omitempty"`
	}{plain: plain(t)})
}

// FunctionCall names a function and its arguments in JSON.
type FunctionCall struct {
	Name      string `json:"name,omitempty"`
	Arguments string `json:"arguments"`
}

// CustomCall names a custom tool and what goes into it.
type CustomCall struct {
	Name  string `json:"name,omitempty"`
	Input string `json:"input"`
}

// Audio is a spoken answer in base64.
type Audio struct {
	ID         string `json:"id"`
	Data       string `json:"data,omitempty"`
	ExpiresAt  int64  `json:"expires_at,omitempty"`
	Transcript string `json:"transcript,omitempty"`
}

// Annotation is a source that an answer cites.
type Annotation struct {
	Type        string       `json:"type"`
	URLCitation *URLCitation `json:"url_citation,omitempty"`
}

// URLCitation is a page, and the characters of the content that rest on it.
type URLCitation struct {
	URL        string `json:"url"`
	Title      string `json:"title,omitempty"`
	StartIndex int    `json:"start_index,omitempty"`
	EndIndex   int    `json:"end_index,omitempty"`
}

// marshalWith is the JSON object of plain with more fields, which count where both have one.
func marshalWith(plain any, extra map[string]any) ([]byte, error) {
	body, err := json.Marshal(plain)
	if err != nil || len(extra) == 0 {
		return body, err
	}
	more, err := json.Marshal(extra)
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return nil, err
	}
	for name := range extra {
		if _, ok := fields[name]; ok { // rare, so that the order of fields may be lost
			if err := json.Unmarshal(more, &fields); err != nil {
				return nil, err
			}
			return json.Marshal(fields)
		}
	}
	if bytes.Equal(body, []byte("{}")) {
		return more, nil
	}
	return append(append(body[:len(body)-1], ','), more[1:]...), nil
}
