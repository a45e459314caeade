package helixflow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

const (
	inlineRequests = 1000
	inlineBytes    = 8_000_000
	resultsPage    = 1000
	firstPoll      = 500 * time.Millisecond
	mostPoll       = 10 * time.Second
	pollGrowth     = 1.5
	patience       = 10 * time.Minute // with an API that can't be reached
)

// BatchService: client.Batch, a batch from its requests to its results.
type BatchService struct{ core *core }

// BatchOption is a setting of Process, Wait and Results.
type BatchOption func(*batchSettings)

type batchSettings struct {
	progress func(*Batch)
	quiet    bool
	timeout  time.Duration
	metadata map[string]string
	calls    []CallOption // of the call that makes the batch
}

// BatchProgress has every new state of the batch told to progress. Without it, a terminal shows one line on standard
// error; with nil nothing is shown.
func BatchProgress(progress func(*Batch)) BatchOption {
	return func(s *batchSettings) { s.progress, s.quiet = progress, progress == nil }
}

// BatchTimeout bounds the waiting, which then ends with a *BatchTimeoutError. The batch goes on.
func BatchTimeout(timeout time.Duration) BatchOption {
	return func(s *batchSettings) { s.timeout = timeout }
}

// BatchMetadata is kept with the batch.
func BatchMetadata(metadata map[string]string) BatchOption {
	return func(s *batchSettings) { s.metadata = metadata }
}

// BatchIdempotencyKey is IdempotencyKey for the batch: Process called again with it and the same requests goes on with
// the batch that is there. It does for as many requests as fit into one call; a file is another one each time.
func BatchIdempotencyKey(key string) BatchOption {
	return func(s *batchSettings) { s.calls = append(s.calls, IdempotencyKey(key)) }
}

// BatchError is what kept Process, Wait or Results from their end, once there was a batch. The batch goes on:
// client.Batch.Wait and Results take its id.
type BatchError struct {
	BatchID string
	Err     error
}

func (e *BatchError) Error() string { return e.BatchID + ": " + e.Err.Error() }

func (e *BatchError) Unwrap() error { return e.Err }

// BatchTimeoutError is a batch that goes on while the time to wait for it is over.
type BatchTimeoutError struct{ *BatchError }

func (e *BatchTimeoutError) Unwrap() error { return e.BatchError }

func batchError(ctx context.Context, id string, err error) error {
	found := &BatchError{id, err}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &BatchTimeoutError{found}
	}
	return found
}

// BatchResults has a result for each request, in their order.
type BatchResults struct {
	Batch   *Batch
	Results []BatchResult
}

// Succeeded are the results with a response.
func (r *BatchResults) Succeeded() []BatchResult { return r.filter(true) }

// Failed are the results with an error.
func (r *BatchResults) Failed() []BatchResult { return r.filter(false) }

func (r *BatchResults) filter(succeeded bool) []BatchResult {
	var found []BatchResult
	for _, result := range r.Results {
		if (result.Err == nil) == succeeded {
			found = append(found, result)
		}
	}
	return found
}

// BatchResult is a response or an error of the same types as a single call's.
type BatchResult struct {
	ID       string
	CustomID string
	Response *ChatCompletion // nil with an Err
	Err      error
	Body     json.RawMessage // as it came: of an embedding or a completion too
}

// Completion is the response or the error, as CreateChatCompletion would have returned them.
func (r BatchResult) Completion() (*ChatCompletion, error) { return r.Response, r.Err }

// Process makes a batch of requests, waits until it has ended, and returns all results in the order of the requests.
// More than 1,000 requests, or 8 MB of them, go through a file. Leaving does not cancel the batch.
//
// A request that failed is a result with an Err. The error of Process is about the whole.
func (s *BatchService) Process(ctx context.Context, requests []ChatCompletionRequest, options ...BatchOption) (*BatchResults, error) {
	set := s.settings(options)
	ctx, cancel := set.bound(ctx)
	defer cancel()
	batch, err := s.create(ctx, requests, set)
	if err != nil {
		return nil, err
	}
	if batch, err = s.wait(ctx, batch, set); err != nil {
		return nil, err
	}
	return s.results(ctx, batch)
}

// Wait waits until a batch has ended.
func (s *BatchService) Wait(ctx context.Context, id string, options ...BatchOption) (*Batch, error) {
	set := s.settings(options)
	ctx, cancel := set.bound(ctx)
	defer cancel()
	batch, err := s.core.batch(ctx, id)
	if err != nil {
		return nil, batchError(ctx, id, err)
	}
	return s.wait(ctx, batch, set)
}

// Results gives all results of a batch that are there: all of them if it has ended.
func (s *BatchService) Results(ctx context.Context, id string, options ...BatchOption) (*BatchResults, error) {
	set := s.settings(options)
	ctx, cancel := set.bound(ctx)
	defer cancel()
	batch, err := s.core.batch(ctx, id)
	if err != nil {
		return nil, batchError(ctx, id, err)
	}
	return s.results(ctx, batch)
}

func (s *BatchService) settings(options []BatchOption) *batchSettings {
	set := &batchSettings{}
	for _, option := range options {
		option(set)
	}
	if set.progress == nil && !set.quiet {
		set.progress = terminalProgress()
	}
	return set
}

func (s *batchSettings) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.timeout > 0 {
		return context.WithTimeout(ctx, s.timeout)
	}
	return ctx, func() {}
}

func (s *BatchService) create(ctx context.Context, requests []ChatCompletionRequest, set *batchSettings) (*Batch, error) {
	batches := &BatchesService{s.core}
	if len(requests) <= inlineRequests {
		request := BatchCreateRequest{Requests: requests, Metadata: set.metadata}
		body, err := request.MarshalJSON()
		if err != nil {
			return nil, unsendable(err)
		}
		if len(body) <= inlineBytes {
			return batches.create(ctx, body, set.calls)
		}
	}
	lines, err := linesOf(requests)
	if err != nil {
		return nil, unsendable(err)
	}
	files := &FileService{s.core}
	file, err := files.Create(ctx, FileRequest{File: bytes.NewReader(lines), Filename: "batch.jsonl"})
	if err != nil {
		return nil, err
	}
	return batches.Create(ctx, BatchCreateRequest{InputFileID: file.ID, Metadata: set.metadata}, set.calls...)
}

// linesOf is the input file of a batch: a JSON object a line.
func linesOf(requests []ChatCompletionRequest) ([]byte, error) {
	type line struct {
		CustomID string                `json:"custom_id"`
		Method   string                `json:"method"`
		URL      string                `json:"url"`
		Body     ChatCompletionRequest `json:"body"`
	}
	var lines bytes.Buffer
	encoder := json.NewEncoder(&lines)
	for index, request := range requests {
		name := request.CustomID
		if name == "" {
			name = fmt.Sprintf("request-%d", index+1)
		}
		if err := encoder.Encode(line{name, "POST", chatEndpoint, request}); err != nil {
			return nil, err
		}
	}
	return lines.Bytes(), nil
}

// wait asks until the batch has ended. While the API can't be reached it goes on asking, for some minutes.
func (s *BatchService) wait(ctx context.Context, batch *Batch, set *batchSettings) (*Batch, error) {
	pause := firstPoll
	var failing time.Duration
	for {
		if set.progress != nil {
			set.progress(batch)
		}
		if batch.Ended() {
			return batch, nil
		}
		if s.core.sleep(ctx, pause) != nil {
			return nil, batchError(ctx, batch.ID, s.core.connectionError(ctx, ctx.Err(), false, 0))
		}
		next, err := s.core.batch(ctx, batch.ID)
		switch {
		case err == nil:
			batch, failing = next, 0
		case ctx.Err() != nil || failing > patience || !passing(err):
			return nil, batchError(ctx, batch.ID, err)
		default:
			failing += pause
		}
		if pause = time.Duration(float64(pause) * pollGrowth); pause > mostPoll {
			pause = mostPoll
		}
	}
}

// passing is an error that asking later may not meet again.
func passing(err error) bool {
	var api *APIError
	return errors.As(err, &api) && mayRetry(err, api)
}

func (s *BatchService) results(ctx context.Context, batch *Batch) (*BatchResults, error) {
	if batch.Status == "failed" {
		return nil, batchError(ctx, batch.ID, batch.failure())
	}
	batches := &BatchesService{s.core}
	found := &BatchResults{Batch: batch}
	for query := (BatchQuery{Limit: resultsPage}); ; {
		page, err := batches.Results(ctx, batch.ID, query)
		if err != nil {
			return nil, batchError(ctx, batch.ID, err)
		}
		for _, item := range page.Data {
			found.Results = append(found.Results, s.core.result(item))
		}
		if !page.HasMore || page.LastID == "" {
			return found, nil
		}
		query.After = page.LastID
	}
}

func (c *core) batch(ctx context.Context, id string) (*Batch, error) {
	return (&BatchesService{c}).Retrieve(ctx, id)
}

// failure is the first of the errors for which nothing was done.
func (b *Batch) failure() error {
	failed := &APIError{Message: "The batch failed.", RequestID: b.RequestID}
	if b.Errors != nil && len(b.Errors.Data) > 0 {
		first := b.Errors.Data[0]
		failed.Code, failed.Param = first.Code, first.Param
		failed.Message = "The batch failed: " + first.Message
		if more := len(b.Errors.Data) - 1; more > 0 {
			failed.Message += fmt.Sprintf(" (and %d more errors)", more)
		}
	}
	return failed
}

// result reads an item: its answer, or an error as a single call would have met it.
func (c *core) result(item BatchItem) BatchResult {
	result := BatchResult{ID: item.ID, CustomID: item.CustomID}
	failed := &APIError{}
	if item.Response != nil {
		result.Body = item.Response.Body
		failed.Status, failed.RequestID, failed.Body = item.Response.StatusCode, item.Response.RequestID, result.Body
	}
	switch {
	case item.Error == nil && item.Response != nil && item.Response.StatusCode < 400:
		response := &ChatCompletion{ResponseMeta: ResponseMeta{RequestID: item.Response.RequestID, Raw: result.Body}}
		if err := json.Unmarshal(result.Body, response); err != nil {
			failed.Message = "The answer makes no sense: " + err.Error()
			result.Err = failed
			return result
		}
		result.Response = response
		return result
	case !failed.read(result.Body) && item.Error == nil:
		failed.Message = fmt.Sprintf("The request was not answered (status %d).", failed.Status)
	}
	if item.Error != nil {
		failed.Code, failed.Message = item.Error.Code, item.Error.Message
	}
	result.Err = typed(failed)
	return result
}

// terminalProgress writes one line again and again, if somebody can see it.
func terminalProgress() func(*Batch) {
	about, err := os.Stderr.Stat()
	if err != nil || about.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	return func(batch *Batch) {
		counts, end := batch.RequestCounts, ""
		if batch.Ended() {
			end = "\n"
		}
		fmt.Fprintf(os.Stderr, "\r%s: %s, %d of %d done, %d failed\x1b[K%s",
			batch.ID, batch.Status, counts.Completed+counts.Failed, counts.Total, counts.Failed, end)
	}
}
