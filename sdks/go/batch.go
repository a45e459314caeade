package helixflow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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

// Process makes a batch of requests, waits until it has ended, and returns all results in the order of the requests.
// More than 1,000 requests, or 8 MB of them, go through a file. Leaving does not cancel the batch.
//
// A request that failed is a result with an Err. The error of Process is about the whole.
func (s *BatchService) Process(ctx context.Context, requests []ChatCompletionRequest, options ...BatchOption) (*BatchResults, error) {
	return process(ctx, s, chatEndpoint, requests, options)
}

// ProcessCompletions is Process for completions: the Text of each result has the response.
func (s *BatchService) ProcessCompletions(ctx context.Context, requests []CompletionRequest, options ...BatchOption) (*BatchResults, error) {
	return process(ctx, s, completionEndpoint, requests, options)
}

// ProcessEmbeddings is Process for embeddings: the Embeddings of each result have the response.
func (s *BatchService) ProcessEmbeddings(ctx context.Context, requests []EmbeddingRequest, options ...BatchOption) (*BatchResults, error) {
	return process(ctx, s, embeddingEndpoint, requests, options)
}

func process[T batchable](ctx context.Context, s *BatchService, endpoint string, requests []T, options []BatchOption) (*BatchResults, error) {
	set := s.settings(options)
	ctx, cancel := set.bound(ctx)
	defer cancel()
	entries, err := entriesOf(requests)
	if err != nil {
		return nil, unsendable(err)
	}
	batch, err := s.create(ctx, endpoint, entries, set)
	if err != nil {
		return nil, err
	}
	if batch, err = s.wait(ctx, batch, set); err != nil {
		return nil, err
	}
	return s.results(ctx, batch)
}

// Wait waits until a batch has ended, in whatever way: its Status says.
func (s *BatchService) Wait(ctx context.Context, id string, options ...BatchOption) (*Batch, error) {
	set := s.settings(options)
	ctx, cancel := set.bound(ctx)
	defer cancel()
	batch, err := s.look(ctx, id)
	if err != nil {
		return nil, err
	}
	return s.wait(ctx, batch, set)
}

// Results gives all results of a batch that are there: all of them if it has ended. A batch that failed as a whole has
// none, but a *BatchError.
func (s *BatchService) Results(ctx context.Context, id string, options ...BatchOption) (*BatchResults, error) {
	set := s.settings(options)
	ctx, cancel := set.bound(ctx)
	defer cancel()
	batch, err := s.look(ctx, id)
	if err != nil {
		return nil, err
	}
	return s.results(ctx, batch)
}

func (s *BatchService) settings(options []BatchOption) *batchSettings {
	set := &batchSettings{}
	for _, option := range options {
		option(set)
	}
	return set
}

func (s *batchSettings) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.timeout > 0 {
		return context.WithTimeout(ctx, s.timeout)
	}
	return ctx, func() {}
}

func (s *BatchService) create(ctx context.Context, endpoint string, entries []batchEntry, set *batchSettings) (*Batch, error) {
	request := BatchCreateRequest{Metadata: set.metadata}
	if endpoint != chatEndpoint {
		request.Endpoint = endpoint
	}
	if len(entries) <= inlineRequests {
		body, err := request.marshal(entries)
		if err != nil {
			return nil, unsendable(err)
		}
		if len(body) <= inlineBytes {
			return (&BatchesService{s.core}).create(ctx, body, set.calls)
		}
	}
	lines, err := linesOf(entries, endpoint)
	if err != nil {
		return nil, unsendable(err)
	}
	file, err := (&FileService{s.core}).Create(ctx, FileRequest{File: bytes.NewReader(lines), Filename: "batch.jsonl"})
	if err != nil {
		return nil, err
	}
	request.InputFileID = file.ID
	return (&BatchesService{s.core}).Create(ctx, request, set.calls...)
}

// wait asks until the batch has ended.
func (s *BatchService) wait(ctx context.Context, batch *Batch, set *batchSettings) (*Batch, error) {
	progress := set.progress
	if line := terminalProgress(); line != nil && progress == nil && !set.quiet {
		progress = line.show
		defer line.end()
	}
	for pause := firstPoll; ; pause = longer(pause) {
		if progress != nil {
			progress(batch)
		}
		if batch.Ended() {
			return batch, nil
		}
		if err := s.rest(ctx, batch.ID, pause); err != nil {
			return nil, err
		}
		next, err := s.look(ctx, batch.ID)
		if err != nil {
			return nil, err
		}
		batch = next
	}
}

func (s *BatchService) look(ctx context.Context, id string) (batch *Batch, err error) {
	err = s.patiently(ctx, id, func() error {
		batch, err = (&BatchesService{s.core}).Retrieve(ctx, id)
		return err
	})
	return batch, err
}

// patiently asks until there is an answer: the batch goes on while the API can't be reached, so for some minutes that
// is no reason to give up.
func (s *BatchService) patiently(ctx context.Context, id string, ask func() error) error {
	var failing time.Duration
	for pause := firstPoll; ; pause = longer(pause) {
		err := ask()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || failing > patience || !passing(err) {
			return batchError(ctx, id, err)
		}
		if err := s.rest(ctx, id, pause); err != nil {
			return err
		}
		failing += pause
	}
}

func (s *BatchService) rest(ctx context.Context, id string, pause time.Duration) error {
	if s.core.sleep(ctx, pause) != nil {
		return batchError(ctx, id, s.core.connectionError(ctx, ctx.Err(), false, 0))
	}
	return nil
}

func longer(pause time.Duration) time.Duration {
	if pause = time.Duration(float64(pause) * pollGrowth); pause > mostPoll {
		return mostPoll
	}
	return pause
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
	found := &BatchResults{Batch: batch}
	for query := (BatchQuery{Limit: resultsPage}); ; {
		var page *BatchItemList
		err := s.patiently(ctx, batch.ID, func() (err error) {
			page, err = (&BatchesService{s.core}).Results(ctx, batch.ID, query)
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, item := range page.Data {
			found.Results = append(found.Results, s.core.result(item, batch.Endpoint))
		}
		if !page.HasMore || page.LastID == "" {
			return found, nil
		}
		query.After = page.LastID
	}
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
