package helixflow

import (
	"context"
	"encoding/json"
	"net/http"
)

// BatchesService: client.Batches, the single calls. client.Batch does the whole of it.
type BatchesService struct{ core *core }

// Batch is many requests that are answered within a day. Times are epoch seconds, nil if not yet or never.
type Batch struct {
	ResponseMeta     `json:"-"`
	ID               string            `json:"id"`
	Object           string            `json:"object"`
	Endpoint         string            `json:"endpoint"`
	Errors           *BatchErrors      `json:"errors"` // why it failed as a whole
	InputFileID      string            `json:"input_file_id"`
	CompletionWindow string            `json:"completion_window"`
	Status           string            `json:"status"` // validating, in_progress, finalizing, completed, failed …
	OutputFileID     string            `json:"output_file_id"`
	ErrorFileID      string            `json:"error_file_id"`
	CreatedAt        int64             `json:"created_at"`
	InProgressAt     *int64            `json:"in_progress_at"`
	ExpiresAt        *int64            `json:"expires_at"`
	FinalizingAt     *int64            `json:"finalizing_at"`
	CompletedAt      *int64            `json:"completed_at"`
	FailedAt         *int64            `json:"failed_at"`
	ExpiredAt        *int64            `json:"expired_at"`
	CancellingAt     *int64            `json:"cancelling_at"`
	CancelledAt      *int64            `json:"cancelled_at"`
	RequestCounts    RequestCounts     `json:"request_counts"`
	Metadata         map[string]string `json:"metadata"`
	Usage            *Usage            `json:"usage,omitempty"`
	Cost             string            `json:"cost,omitempty"` // decimal text
}

// Ended is whether nothing more will come.
func (b *Batch) Ended() bool {
	switch b.Status {
	case "completed", "failed", "expired", "cancelled":
		return true
	}
	return false
}

// RequestCounts is how far a batch is. Total is 0 until its file was read.
type RequestCounts struct {
	Total     int `json:"total"`
	Completed int `json:"completed"`
	Failed    int `json:"failed"`
}

// BatchErrors names what is wrong with an input file.
type BatchErrors struct {
	Object string           `json:"object"`
	Data   []BatchFileError `json:"data"`
}

// BatchFileError is a bad line, from 1.
type BatchFileError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Param   string `json:"param"`
	Line    *int   `json:"line"`
}

// BatchCreateRequest has requests of one kind, at most 1,000, or the id of a file of them.
type BatchCreateRequest struct {
	Requests         []ChatCompletionRequest `json:"-"`
	Completions      []CompletionRequest     `json:"-"`
	Embeddings       []EmbeddingRequest      `json:"-"`
	InputFileID      string                  `json:"input_file_id,omitempty"`
	Endpoint         string                  `json:"endpoint,omitempty"`          // that of the requests, if empty; of a file, /v1/chat/completions
	CompletionWindow string                  `json:"completion_window,omitempty"` // 24h
	Metadata         map[string]string       `json:"metadata,omitempty"`

	Extra map[string]any `json:"-"` // fields that this version doesn't know
}

const (
	chatEndpoint       = "/v1/chat/completions"
	completionEndpoint = "/v1/completions"
	embeddingEndpoint  = "/v1/embeddings"
)

// MarshalJSON names the endpoint where the API would take it for another, and gives a file the window that it needs.
func (r BatchCreateRequest) MarshalJSON() ([]byte, error) {
	entries, err := r.entries()
	if err != nil {
		return nil, err
	}
	switch {
	case r.Endpoint != "":
	case len(r.Completions) > 0:
		r.Endpoint = completionEndpoint
	case len(r.Embeddings) > 0:
		r.Endpoint = embeddingEndpoint
	case r.InputFileID != "":
		r.Endpoint = chatEndpoint
	}
	if r.InputFileID != "" && r.CompletionWindow == "" {
		r.CompletionWindow = "24h"
	}
	return r.marshal(entries)
}

func (r BatchCreateRequest) entries() ([]batchEntry, error) {
	chats, err := entriesOf(r.Requests)
	if err != nil {
		return nil, err
	}
	completions, err := entriesOf(r.Completions)
	if err != nil {
		return nil, err
	}
	embeddings, err := entriesOf(r.Embeddings)
	return append(append(chats, completions...), embeddings...), err
}

func (r BatchCreateRequest) marshal(entries []batchEntry) ([]byte, error) {
	type plain BatchCreateRequest
	wire := struct {
		Requests *[]json.RawMessage `json:"requests,omitempty"`
		plain
	}{plain: plain(r)}
	if r.InputFileID == "" {
		items := make([]json.RawMessage, len(entries)) // none is an empty list, of which the API says what is wrong
		for index, entry := range entries {
			var err error
			if items[index], err = entry.inline(); err != nil {
				return nil, err
			}
		}
		wire.Requests = &items
	}
	return marshalWith(wire, r.Extra)
}

// BatchQuery chooses a page: after that id, at most so many. Zero values leave it to the API.
type BatchQuery struct {
	Limit int
	After string
}

// BatchList is a page of batches, newest first. The next one is after LastID.
type BatchList struct {
	ResponseMeta `json:"-"`
	Object       string  `json:"object"`
	Data         []Batch `json:"data"`
	FirstID      string  `json:"first_id"`
	LastID       string  `json:"last_id"`
	HasMore      bool    `json:"has_more"`
}

// BatchItemList is a page of a batch's results, in the order of its requests.
type BatchItemList struct {
	ResponseMeta `json:"-"`
	Object       string      `json:"object"`
	Data         []BatchItem `json:"data"`
	FirstID      string      `json:"first_id"`
	LastID       string      `json:"last_id"`
	HasMore      bool        `json:"has_more"`
}

// BatchItem is one result as the API tells it.
type BatchItem struct {
	ID       string             `json:"id"`
	CustomID string             `json:"custom_id"`
	Response *BatchItemResponse `json:"response"`
	Error    *BatchItemError    `json:"error"`
}

// BatchItemResponse is the answer to one request: of a refused one too, with the error in its body.
type BatchItemResponse struct {
	StatusCode int             `json:"status_code"`
	RequestID  string          `json:"request_id"`
	Body       json.RawMessage `json:"body"`
}

// BatchItemError is why there is no answer.
type BatchItemError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Create makes a batch.
func (s *BatchesService) Create(ctx context.Context, request BatchCreateRequest, options ...CallOption) (*Batch, error) {
	body, err := request.MarshalJSON()
	if err != nil {
		return nil, unsendable(err)
	}
	return s.create(ctx, body, options)
}

func (s *BatchesService) create(ctx context.Context, body []byte, options []CallOption) (*Batch, error) {
	op := post("/batches", body)
	op.idempotent = true
	return fetch[Batch](ctx, s.core, op, options)
}

// List gives a page of batches.
func (s *BatchesService) List(ctx context.Context, query BatchQuery, options ...CallOption) (*BatchList, error) {
	return fetch[BatchList](ctx, s.core, get("/batches", pageValues(query.Limit, query.After)), options)
}

// Retrieve gives one batch, and how far it is.
func (s *BatchesService) Retrieve(ctx context.Context, id string, options ...CallOption) (*Batch, error) {
	return byID[Batch](ctx, s.core, http.MethodGet, "/batches/", id, "", options)
}

// Cancel stops a batch. What was answered until then is kept.
func (s *BatchesService) Cancel(ctx context.Context, id string, options ...CallOption) (*Batch, error) {
	return byID[Batch](ctx, s.core, http.MethodPost, "/batches/", id, "/cancel", options)
}

// Retry makes a new batch of the requests that failed.
func (s *BatchesService) Retry(ctx context.Context, id string, options ...CallOption) (*Batch, error) {
	named, err := segment(id)
	if err != nil {
		return nil, err
	}
	op := &operation{method: http.MethodPost, path: "/batches/" + named + "/retry", idempotent: true}
	return fetch[Batch](ctx, s.core, op, options)
}

// Results gives a page of the results that are there.
func (s *BatchesService) Results(ctx context.Context, id string, query BatchQuery, options ...CallOption) (*BatchItemList, error) {
	named, err := segment(id)
	if err != nil {
		return nil, err
	}
	return fetch[BatchItemList](ctx, s.core, get("/batches/"+named+"/results", pageValues(query.Limit, query.After)), options)
}
