package helixflow

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
)

// ChatCompletionRequest has the documented parameters. What is nil or empty is not sent; Ptr makes pointers.
type ChatCompletionRequest struct {
	Model    string    `json:"model"`
	Messages []Message `json:"messages"`

	Temperature         *float64           `json:"temperature,omitempty"` // 0 to 2, 1 if absent
	MaxTokens           *int               `json:"max_tokens,omitempty"`  // 150 if absent
	MaxCompletionTokens *int               `json:"max_completion_tokens,omitempty"`
	TopP                *float64           `json:"top_p,omitempty"`             // 0 to 1, 1 if absent
	FrequencyPenalty    *float64           `json:"frequency_penalty,omitempty"` // -2 to 2
	PresencePenalty     *float64           `json:"presence_penalty,omitempty"`  // -2 to 2
	Stop                []string           `json:"stop,omitempty"`              // at most 4
	N                   *int               `json:"n,omitempty"`
	Seed                *int64             `json:"seed,omitempty"`
	LogitBias           map[string]int     `json:"logit_bias,omitempty"`
	Logprobs            *bool              `json:"logprobs,omitempty"`
	TopLogprobs         *int               `json:"top_logprobs,omitempty"`
	StreamOptions       *StreamOptions     `json:"stream_options,omitempty"`
	Tools               []Tool             `json:"tools,omitempty"`
	ToolChoice          any                `json:"tool_choice,omitempty"` // none, auto, required or ChooseFunction
	ParallelToolCalls   *bool              `json:"parallel_tool_calls,omitempty"`
	Functions           []Function         `json:"functions,omitempty"`     // as tools were called once
	FunctionCall        any                `json:"function_call,omitempty"` // none, auto or a name
	ResponseFormat      *ResponseFormat    `json:"response_format,omitempty"`
	ReasoningEffort     string             `json:"reasoning_effort,omitempty"` // none, minimal, low, medium, high, xhigh, max
	Verbosity           string             `json:"verbosity,omitempty"`        // low, medium, high
	Modalities          []string           `json:"modalities,omitempty"`       // text, audio
	Audio               *AudioOptions      `json:"audio,omitempty"`
	Prediction          *Prediction        `json:"prediction,omitempty"`
	Moderation          *ModerationOptions `json:"moderation,omitempty"`
	WebSearchOptions    *WebSearchOptions  `json:"web_search_options,omitempty"`
	ServiceTier         string             `json:"service_tier,omitempty"` // auto, default, flex, scale, priority, fast
	Store               *bool              `json:"store,omitempty"`
	Metadata            map[string]string  `json:"metadata,omitempty"`
	User                string             `json:"user,omitempty"` // your name for the end-user
	SafetyIdentifier    string             `json:"safety_identifier,omitempty"`

	PromptCacheKey       string              `json:"prompt_cache_key,omitempty"`
	PromptCacheOptions   *PromptCacheOptions `json:"prompt_cache_options,omitempty"`
	PromptCacheRetention string              `json:"prompt_cache_retention,omitempty"` // in_memory, 24h

	CustomID string         `json:"-"` // names the request within a batch, and is of no use elsewhere
	Extra    map[string]any `json:"-"` // fields that this version doesn't know
}

// MarshalJSON writes Extra's fields beside the others.
func (r ChatCompletionRequest) MarshalJSON() ([]byte, error) {
	type plain ChatCompletionRequest
	return marshalWith(plain(r), r.Extra)
}

// StreamOptions: with IncludeUsage a last chunk, without choices, has the usage.
type StreamOptions struct {
	IncludeUsage       *bool `json:"include_usage,omitempty"`
	IncludeObfuscation *bool `json:"include_obfuscation,omitempty"`
}

// Tool is something the model may call.
type Tool struct {
	Type     string      `json:"type"` // function, custom
	Function *Function   `json:"function,omitempty"`
	Custom   *CustomTool `json:"custom,omitempty"`
}

// Function is described by a JSON schema of its parameters: a map, a struct, or json.RawMessage.
type Function struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Parameters  any    `json:"parameters,omitempty"`
	Strict      *bool  `json:"strict,omitempty"`
}

// FunctionTool is a tool that is a function.
func FunctionTool(function Function) Tool { return Tool{Type: "function", Function: &function} }

// ChooseFunction is the ToolChoice of this function.
func ChooseFunction(name string) any {
	return map[string]any{"type": "function", "function": map[string]string{"name": name}}
}

// CustomTool takes free text.
type CustomTool struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Format      any    `json:"format,omitempty"`
}

// ResponseFormat asks for text, any JSON object, or JSON of a schema.
type ResponseFormat struct {
	Type       string      `json:"type"` // text, json_object, json_schema
	JSONSchema *JSONSchema `json:"json_schema,omitempty"`
}

// JSONSchema is a schema with a name: a map, a struct, or json.RawMessage.
type JSONSchema struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Schema      any    `json:"schema,omitempty"`
	Strict      *bool  `json:"strict,omitempty"`
}

// AudioOptions of a spoken answer. Voice is a name, or an object with an id.
type AudioOptions struct {
	Format string `json:"format"` // wav, aac, mp3, flac, opus, pcm16
	Voice  any    `json:"voice"`
}

// Prediction is what much of the answer is expected to be: a text, or text parts.
type Prediction struct {
	Type    string `json:"type"` // content
	Content any    `json:"content"`
}

// ModerationOptions asks for scores, or for a stop.
type ModerationOptions struct {
	Model  string `json:"model"`
	Policy any    `json:"policy,omitempty"`
}

// WebSearchOptions of models that search.
type WebSearchOptions struct {
	SearchContextSize string `json:"search_context_size,omitempty"` // low, medium, high
	UserLocation      any    `json:"user_location,omitempty"`
}

// PromptCacheOptions of providers that cache prompts.
type PromptCacheOptions struct {
	Mode string `json:"mode,omitempty"` // implicit, explicit
	TTL  string `json:"ttl,omitempty"`
}

// ChatCompletion is the answer to a ChatCompletionRequest.
type ChatCompletion struct {
	ResponseMeta      `json:"-"`
	ID                string         `json:"id"`
	Object            string         `json:"object"`
	Created           int64          `json:"created"` // epoch seconds
	Model             string         `json:"model"`
	Choices           []Choice       `json:"choices"`
	Usage             *Usage         `json:"usage,omitempty"`
	ServiceTier       string         `json:"service_tier,omitempty"`
	SystemFingerprint string         `json:"system_fingerprint,omitempty"`
	Moderation        map[string]any `json:"moderation,omitempty"`
}

func (c *ChatCompletion) usage() *Usage { return c.Usage }

// Choice is one of the n answers. FinishReason is stop, length, tool_calls or content_filter.
type Choice struct {
	Index        int       `json:"index"`
	Message      Message   `json:"message"`
	FinishReason string    `json:"finish_reason"`
	Logprobs     *Logprobs `json:"logprobs,omitempty"`
}

// Usage is what a request came to in tokens.
type Usage struct {
	PromptTokens            int                      `json:"prompt_tokens"`
	CompletionTokens        int                      `json:"completion_tokens"`
	TotalTokens             int                      `json:"total_tokens"`
	PromptTokensDetails     *PromptTokensDetails     `json:"prompt_tokens_details,omitempty"`
	CompletionTokensDetails *CompletionTokensDetails `json:"completion_tokens_details,omitempty"`
}

// PromptTokensDetails are parts of the prompt tokens.
type PromptTokensDetails struct {
	CachedTokens     int `json:"cached_tokens,omitempty"`
	CacheWriteTokens int `json:"cache_write_tokens,omitempty"`
	AudioTokens      int `json:"audio_tokens,omitempty"`
	ImageTokens      int `json:"image_tokens,omitempty"`
	TextTokens       int `json:"text_tokens,omitempty"`
}

// CompletionTokensDetails are parts of the completion tokens.
type CompletionTokensDetails struct {
	ReasoningTokens          int `json:"reasoning_tokens,omitempty"`
	AudioTokens              int `json:"audio_tokens,omitempty"`
	TextTokens               int `json:"text_tokens,omitempty"`
	AcceptedPredictionTokens int `json:"accepted_prediction_tokens,omitempty"`
	RejectedPredictionTokens int `json:"rejected_prediction_tokens,omitempty"`
}

// Logprobs of each token.
type Logprobs struct {
	Content []TokenLogprob `json:"content,omitempty"`
	Refusal []TokenLogprob `json:"refusal,omitempty"`
}

// TokenLogprob is a token and what else it could have been.
type TokenLogprob struct {
	Token       string         `json:"token"`
	Logprob     float64        `json:"logprob"`
	Bytes       []int          `json:"bytes,omitempty"`
	TopLogprobs []TokenLogprob `json:"top_logprobs,omitempty"`
}

// ChatCompletionChunk is a piece of a streamed answer. The last has no choices if it has the usage.
type ChatCompletionChunk struct {
	ResponseMeta      `json:"-"`
	ID                string        `json:"id"`
	Object            string        `json:"object"`
	Created           int64         `json:"created"`
	Model             string        `json:"model"`
	Choices           []ChunkChoice `json:"choices"`
	Usage             *Usage        `json:"usage,omitempty"`
	ServiceTier       string        `json:"service_tier,omitempty"`
	SystemFingerprint string        `json:"system_fingerprint,omitempty"`
}

func (c *ChatCompletionChunk) usage() *Usage { return c.Usage }

// Text is what the chunk adds to the first choice.
func (c *ChatCompletionChunk) Text() string {
	if len(c.Choices) == 0 {
		return ""
	}
	return c.Choices[0].Delta.Content
}

// ChunkChoice is what a chunk adds to one choice. FinishReason is empty until its last.
type ChunkChoice struct {
	Index        int       `json:"index"`
	Delta        Delta     `json:"delta"`
	FinishReason string    `json:"finish_reason"`
	Logprobs     *Logprobs `json:"logprobs,omitempty"`
}

// Delta is a piece of a message.
type Delta struct {
	Role             string        `json:"role,omitempty"`
	Content          string        `json:"content,omitempty"`
	ToolCalls        []ToolCall    `json:"tool_calls,omitempty"`
	FunctionCall     *FunctionCall `json:"function_call,omitempty"`
	Refusal          string        `json:"refusal,omitempty"`
	ReasoningContent string        `json:"reasoning_content,omitempty"`
	Audio            *Audio        `json:"audio,omitempty"`
	Annotations      []Annotation  `json:"annotations,omitempty"`
}

// CreateChatCompletion answers a conversation.
func (c *Client) CreateChatCompletion(ctx context.Context, request ChatCompletionRequest, options ...CallOption) (*ChatCompletion, error) {
	return create[ChatCompletion](ctx, c.core, "/chat/completions", request.Model, request, options)
}

// CreateChatCompletionStream answers a conversation chunk by chunk, as the model writes. Close the stream.
func (c *Client) CreateChatCompletionStream(ctx context.Context, request ChatCompletionRequest, options ...CallOption) (*ChatCompletionStream, error) {
	return createStream[ChatCompletionChunk](ctx, c.core, "/chat/completions", request.Model, request, options)
}

func create[T any](ctx context.Context, c *core, path, model string, request json.Marshaler, options []CallOption) (*T, error) {
	body, err := request.MarshalJSON()
	if err != nil {
		return nil, unsendable(err)
	}
	op := post(path, body)
	op.model, op.idempotent, op.cacheable = model, true, true
	return fetch[T](ctx, c, op, options)
}

func createStream[T any](ctx context.Context, c *core, path, model string, request json.Marshaler, options []CallOption) (*Stream[T], error) {
	body, err := request.MarshalJSON()
	if err != nil {
		return nil, unsendable(err)
	}
	op := post(path, append(body[:len(body)-1], `,"stream":true}`...))
	op.model, op.idempotent = model, true
	return openStream[T](ctx, c, op, options)
}

func fetch[T any](ctx context.Context, c *core, op *operation, options []CallOption) (*T, error) {
	out := new(T)
	op.out = out
	if err := c.call(ctx, op, options); err != nil {
		return nil, err
	}
	return out, nil
}

func post(path string, body []byte) *operation {
	return &operation{method: http.MethodPost, path: path, body: &payload{
		contentType: "application/json",
		size:        int64(len(body)),
		open:        func() io.Reader { return bytes.NewReader(body) },
	}}
}

func unsendable(err error) error {
	return typed(&APIError{Code: "invalid_request", Message: "The request can't be written as JSON: " + err.Error()})
}
