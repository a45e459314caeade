package helixflow

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
)

// CompletionRequest continues a prompt: a text, a list of texts, or tokens in their place.
type CompletionRequest struct {
	Model  string `json:"model"`
	Prompt any    `json:"prompt"`

	Suffix           string         `json:"suffix,omitempty"`
	MaxTokens        *int           `json:"max_tokens,omitempty"` // 16 if absent
	Temperature      *float64       `json:"temperature,omitempty"`
	TopP             *float64       `json:"top_p,omitempty"`
	N                *int           `json:"n,omitempty"`
	BestOf           *int           `json:"best_of,omitempty"`
	Logprobs         *int           `json:"logprobs,omitempty"`
	Echo             *bool          `json:"echo,omitempty"`
	Stop             []string       `json:"stop,omitempty"`
	PresencePenalty  *float64       `json:"presence_penalty,omitempty"`
	FrequencyPenalty *float64       `json:"frequency_penalty,omitempty"`
	LogitBias        map[string]int `json:"logit_bias,omitempty"`
	Seed             *int64         `json:"seed,omitempty"`
	StreamOptions    *StreamOptions `json:"stream_options,omitempty"`
	User             string         `json:"user,omitempty"`

	CustomID string         `json:"-"` // names the request within a batch, and is of no use elsewhere
	Extra    map[string]any `json:"-"`
}

// MarshalJSON writes Extra's fields beside the others.
func (r CompletionRequest) MarshalJSON() ([]byte, error) {
	type plain CompletionRequest
	return marshalWith(plain(r), r.Extra)
}

// Completion is the answer to a CompletionRequest, or a chunk of it.
type Completion struct {
	ResponseMeta      `json:"-"`
	ID                string             `json:"id"`
	Object            string             `json:"object"`
	Created           int64              `json:"created"`
	Model             string             `json:"model"`
	Choices           []CompletionChoice `json:"choices"`
	Usage             *Usage             `json:"usage,omitempty"`
	SystemFingerprint string             `json:"system_fingerprint,omitempty"`
}

func (c *Completion) usage() *Usage { return c.Usage }

// CompletionChoice is one of the n texts.
type CompletionChoice struct {
	Index        int                 `json:"index"`
	Text         string              `json:"text"`
	FinishReason string              `json:"finish_reason"`
	Logprobs     *CompletionLogprobs `json:"logprobs,omitempty"`
}

// CompletionLogprobs has an entry in each list for each token.
type CompletionLogprobs struct {
	Tokens        []string             `json:"tokens"`
	TokenLogprobs []*float64           `json:"token_logprobs"`
	TopLogprobs   []map[string]float64 `json:"top_logprobs"`
	TextOffset    []int                `json:"text_offset"`
}

// CreateCompletion continues a prompt.
func (c *Client) CreateCompletion(ctx context.Context, request CompletionRequest, options ...CallOption) (*Completion, error) {
	return create[Completion](ctx, c.core, "/completions", request.Model, request, options)
}

// CreateCompletionStream continues a prompt chunk by chunk. Close the stream.
func (c *Client) CreateCompletionStream(ctx context.Context, request CompletionRequest, options ...CallOption) (*CompletionStream, error) {
	return createStream[Completion](ctx, c.core, "/completions", request.Model, request, options)
}

// EmbeddingRequest has one input or a list of them, each a text or tokens.
type EmbeddingRequest struct {
	Model          string `json:"model"`
	Input          any    `json:"input"`
	EncodingFormat string `json:"encoding_format,omitempty"` // float, base64
	Dimensions     *int   `json:"dimensions,omitempty"`
	User           string `json:"user,omitempty"`

	CustomID string         `json:"-"` // names the request within a batch, and is of no use elsewhere
	Extra    map[string]any `json:"-"`
}

// MarshalJSON writes Extra's fields beside the others.
func (r EmbeddingRequest) MarshalJSON() ([]byte, error) {
	type plain EmbeddingRequest
	return marshalWith(plain(r), r.Extra)
}

// EmbeddingResponse has an embedding for each input, in their order.
type EmbeddingResponse struct {
	ResponseMeta `json:"-"`
	Object       string      `json:"object"`
	Data         []Embedding `json:"data"`
	Model        string      `json:"model"`
	Usage        *Usage      `json:"usage,omitempty"`
}

func (r *EmbeddingResponse) usage() *Usage { return r.Usage }

// Embedding is the vector of one input.
type Embedding struct {
	Object    string `json:"object"`
	Index     int    `json:"index"`
	Embedding Vector `json:"embedding"`
}

// Vector reads both encodings: a list of numbers, and base64 of 32-bit floats, little-endian.
type Vector []float64

// UnmarshalJSON reads either encoding.
func (v *Vector) UnmarshalJSON(data []byte) error {
	if len(data) == 0 || data[0] != '"' {
		return json.Unmarshal(data, (*[]float64)(v))
	}
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	packed, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return err
	}
	*v = make(Vector, len(packed)/4)
	for index := range *v {
		(*v)[index] = float64(math.Float32frombits(binary.LittleEndian.Uint32(packed[4*index:])))
	}
	return nil
}

// CreateEmbeddings makes vectors of texts.
func (c *Client) CreateEmbeddings(ctx context.Context, request EmbeddingRequest, options ...CallOption) (*EmbeddingResponse, error) {
	return create[EmbeddingResponse](ctx, c.core, "/embeddings", request.Model, request, options)
}
