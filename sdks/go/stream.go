package helixflow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// ChatCompletionStream is the answer of a chat completion, as it is written.
type ChatCompletionStream = Stream[ChatCompletionChunk]

// CompletionStream is the answer of a completion, as it is written.
type CompletionStream = Stream[Completion]

// Stream gives the chunks of an answer one by one. One goroutine reads it; any may close it.
type Stream[T any] struct {
	RequestID string
	Header    http.Header

	try     *try
	decoder eventDecoder
	piece   [4096]byte
	done    error // why Recv gives no more

	mutex  sync.Mutex
	closed bool // by its end or by Close
}

const goodbye = time.Second // for the connection to end properly, so that it can be used again

func openStream[T any](ctx context.Context, c *core, op *operation, options []CallOption) (*Stream[T], error) {
	var stream *Stream[T]
	options = append([]CallOption{Header("Accept", "text/event-stream")}, options...)
	err := c.try(ctx, op, c.settings(options), func(try *try) error {
		if kind := try.response.Header.Get("Content-Type"); strings.Contains(kind, "json") || strings.Contains(kind, "html") {
			return try.notAStream(kind)
		}
		try.stopClock() // the time between two calls of Recv is the caller's
		stream = &Stream[T]{RequestID: try.told.RequestID, Header: try.response.Header, try: try}
		return nil
	})
	return stream, err
}

// Recv waits for the next chunk. The error is io.EOF at the proper end, and is net.ErrClosed after Close; after any
// error the stream is closed.
func (s *Stream[T]) Recv() (*T, error) {
	if s.done != nil {
		return nil, s.done
	}
	if s.isClosed() {
		return nil, s.finish(nil)
	}
	data, err := s.event()
	if err != nil {
		return nil, s.finish(err)
	}
	if string(data) == "[DONE]" {
		return nil, s.finish(io.EOF)
	}
	chunk := new(T)
	if err := s.read(data, chunk); err != nil {
		return nil, s.finish(err)
	}
	return chunk, nil
}

// All gives the chunks to range over, from Go 1.23 on: for chunk, err := range stream.All(). It closes the stream when
// the loop is left. A proper end is no error.
func (s *Stream[T]) All() func(yield func(*T, error) bool) {
	return func(yield func(*T, error) bool) {
		defer s.Close()
		for {
			chunk, err := s.Recv()
			if err == io.EOF || !yield(chunk, err) || err != nil {
				return
			}
		}
	}
}

// Close closes the connection at once, unless the stream has ended. Its error is always nil.
func (s *Stream[T]) Close() error {
	if s.close() {
		s.try.release()
		s.try.tell(nil)
	}
	return nil
}

// close is true for the first that closes the stream.
func (s *Stream[T]) close() bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	first := !s.closed
	s.closed = true
	return first
}

// event is the data of the next event.
func (s *Stream[T]) event() ([]byte, error) {
	for {
		if data, ok := s.decoder.next(); ok {
			return data, nil
		}
		s.try.startClock()
		count, err := s.try.response.Body.Read(s.piece[:])
		s.try.stopClock()
		s.decoder.push(s.piece[:count])
		if err == nil || count > 0 {
			continue // an error comes again with the next read
		}
		if rest := s.decoder.rest(); string(rest) == "[DONE]" {
			return rest, nil
		}
		return nil, s.cut(err)
	}
}

func (s *Stream[T]) read(data []byte, chunk *T) error {
	if err := s.failure(data); err != nil {
		return err
	}
	if err := json.Unmarshal(data, chunk); err != nil {
		return &APIError{Message: "A chunk makes no sense: " + err.Error(), RequestID: s.RequestID, Header: s.Header, Body: data}
	}
	if found, ok := any(chunk).(described); ok {
		*found.meta() = ResponseMeta{s.RequestID, s.Header, data}
	}
	if report, ok := any(chunk).(reporting); ok && report.usage() != nil {
		s.note(report.usage())
	}
	return nil
}

// failure is the error that a chunk holds in place of an answer.
func (s *Stream[T]) failure(data []byte) error {
	if !bytes.Contains(data, []byte(`"error"`)) {
		return nil
	}
	var found struct {
		Error json.RawMessage `json:"error"`
	}
	if json.Unmarshal(data, &found) != nil || len(found.Error) == 0 || string(found.Error) == "null" {
		return nil
	}
	data = s.try.core.redact(data)
	failed := &APIError{RequestID: s.RequestID, Header: s.Header, Body: data}
	if !failed.read(data) {
		failed.Message = "The stream ended with an error: " + excerpt(data)
	}
	return typed(failed)
}

// cut is an end of the connection where [DONE] was to come.
func (s *Stream[T]) cut(err error) error {
	found := s.try.failed(err)
	var timeout *APITimeoutError
	if errors.Is(found, context.Canceled) || errors.As(found, &timeout) {
		return found
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	base := &APIError{Message: "The stream was cut: " + withoutURL(err).Error(), RequestID: s.RequestID, Header: s.Header}
	return &StreamCutError{&APIConnectionError{base, err}}
}

// finish ends the stream with the error that Recv gives from now on: another one if it was closed meanwhile, since what
// came is not the whole answer then.
func (s *Stream[T]) finish(err error) error {
	s.done = err
	if !s.close() {
		base := &APIError{Message: "The stream was closed.", RequestID: s.RequestID, Header: s.Header}
		s.done = &APIConnectionError{base, net.ErrClosed}
	} else if err == io.EOF {
		s.try.tell(nil)
		go s.try.goodbye()
	} else {
		s.try.end(err)
	}
	return s.done
}

func (s *Stream[T]) isClosed() bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.closed
}

// note keeps the usage for the hook, unless Close has told it already.
func (s *Stream[T]) note(usage *Usage) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if !s.closed {
		s.try.told.Usage = usage
	}
}

// goodbye reads the few bytes that end a body, without which its connection can't be used again.
func (t *try) goodbye() {
	late := time.AfterFunc(goodbye, t.cancel)
	defer late.Stop()
	_, _ = io.Copy(io.Discard, t.response.Body)
	t.release()
}

func (t *try) notAStream(kind string) error {
	body, err := io.ReadAll(t.response.Body)
	if err != nil {
		return t.failed(err)
	}
	return &APIError{
		Message:   "The answer is " + kind + ", and not a stream.",
		Status:    t.response.StatusCode,
		RequestID: t.told.RequestID,
		Header:    t.response.Header,
		Body:      t.core.redact(body),
	}
}
