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

// BatchCreateRequest has requests, at most 1,000, or the id of a file of them.
type BatchCreateRequest struct {
	Requests         []ChatCompletionRequest `json:"-"`
	InputFileID      string                  `json:"input_file_id,omitempty"`
	Endpoint         string                  `json:"endpoint,omitempty"`          // /v1/chat/completions, if empty
	CompletionWindow string                  `json:"completion_window,omitempty"` // 24h
	Metadata         map[string]string       `json:"metadata,omitempty"`

	Extra map[string]any `json:"-"` // also requests of another endpoint, as "requests"
}

// MarshalJSON gives a file its endpoint and window, which it needs.
func (r BatchCreateRequest) MarshalJSON() ([]byte, error) {
	type plain BatchCreateRequest
	if r.InputFileID != "" {
		if r.Endpoint == "" {
			r.Endpoint = chatEndpoint
		}
		if r.CompletionWindow == "" {
			r.CompletionWindow = "24h"
		}
	}
	wire := struct {
		Requests []json.RawMessage `json:"requests,omitempty"`
		plain
	}{plain: plain(r)}
	for _, request := range r.Requests {
		item, err := itemOf(request)
		if err != nil {
			return nil, err
		}
		wire.Requests = append(wire.Requests, item)
	}
	return marshalWith(wire, r.Extra)
}

const chatEndpoint = "/v1/chat/completions"

// itemOf is a request as an inline batch has it: with its name.
func itemOf(request ChatCompletionRequest) (json.RawMessage, error) {
	body, err := request.MarshalJSON()
	if err != nil || request.CustomID == "" {
		return body, err
	}
	return marshalWith(json.RawMessage(body), map[string]any{"custom_id": request.CustomID})
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
