package helixflow

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"
)

// What the shared contract does not ask, as it is Go's own.

const chunkEvent = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n"

var hello = ChatCompletionRequest{Model: "gpt-4", Messages: []Message{{Role: RoleUser, Content: "Hello!"}}}

// talking answers with a stream that goes on until the reader has left, which it then tells.
func talking(t *testing.T) (*Client, chan bool) {
	left := make(chan bool, 1)
	server := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		_, _ = io.Copy(io.Discard, request.Body)
		answer.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(answer, chunkEvent)
		answer.(http.Flusher).Flush()
		<-request.Context().Done()
		left <- true
	}))
	t.Cleanup(server.Close)
	return NewClient("hflow_test", WithBaseURL(server.URL+"/v1")), left
}

func TestAStreamIsLeft(t *testing.T) {
	ways := map[string]func(*ChatCompletionStream, context.CancelFunc){
		"by Close":                  func(stream *ChatCompletionStream, _ context.CancelFunc) { stream.Close() },
		"by the end of its context": func(_ *ChatCompletionStream, cancel context.CancelFunc) { cancel() },
		"by Close from elsewhere":   func(stream *ChatCompletionStream, _ context.CancelFunc) { go stream.Close() },
		"by leaving the loop of All": func(stream *ChatCompletionStream, _ context.CancelFunc) {
			stream.All()(func(*ChatCompletionChunk, error) bool { return false })
		},
	}
	for name, leave := range ways {
		t.Run(name, func(t *testing.T) {
			client, left := talking(t)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			stream, err := client.CreateChatCompletionStream(ctx, hello)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(name, "All") {
				if chunk, err := stream.Recv(); err != nil || chunk.Text() != "Hi" {
					t.Fatal(chunk, err)
				}
			}
			leave(stream, cancel)
			_, err = stream.Recv()
			var api *APIError
			if !(errors.Is(err, net.ErrClosed) || errors.Is(err, context.Canceled)) || !errors.As(err, &api) {
				t.Errorf("left, and then %v", err)
			}
			select {
			case <-left:
			case <-time.After(10 * time.Second):
				t.Error("the connection is open")
			}
		})
	}
}

func TestProgressEndsItsLine(t *testing.T) {
	var out strings.Builder
	line := &progressLine{out: &out}
	line.end() // nothing was shown
	line.show(&Batch{ID: "batch_1", Status: "in_progress", RequestCounts: RequestCounts{Total: 3, Completed: 1}})
	line.end()
	line.end()
	if want := "\rbatch_1: in_progress, 1 of 3 done, 0 failed\x1b[K\n"; out.String() != want {
		t.Errorf("%q, not %q", out.String(), want)
	}
}

func TestTheEndOfTheContextEndsACall(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		_, _ = io.Copy(io.Discard, request.Body)
		<-request.Context().Done()
	}))
	defer server.Close()
	client := NewClient("hflow_test", WithBaseURL(server.URL))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err := client.CreateChatCompletion(ctx, hello)
	var timeout *APITimeoutError
	if !errors.As(err, &timeout) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%T: %v", err, err)
	}
}

func TestABatchOfTooManyBytesGoesThroughAFile(t *testing.T) {
	var paths []string
	server := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		_, _ = io.Copy(io.Discard, request.Body)
		paths = append(paths, request.URL.Path)
		_, _ = io.WriteString(answer, `{"id":"x","status":"failed","errors":{"data":[{"code":"of_a_new_kind","message":"No."}]}}`)
	}))
	defer server.Close()
	client := NewClient("hflow_test", WithBaseURL(server.URL))
	large := []ChatCompletionRequest{{Messages: []Message{{Content: strings.Repeat("a", inlineBytes)}}}}
	_, err := client.Batch.Process(context.Background(), large, BatchProgress(nil))
	var failed *BatchError
	if !errors.As(err, &failed) || failed.BatchID != "x" || !reflect.DeepEqual(paths, []string{"/files", "/batches"}) {
		t.Error(err, paths)
	}
}

func TestABatchOutlivesItsWaiting(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		_, _ = io.WriteString(answer, `{"id":"batch_1","status":"in_progress"}`)
	}))
	defer server.Close()
	client := NewClient("hflow_test", WithBaseURL(server.URL))
	ctx, cancel := context.WithCancel(context.Background())
	client.core.sleep = func(ctx context.Context, _ time.Duration) error {
		cancel()
		return ctx.Err()
	}
	_, err := client.Batch.Process(ctx, nil, BatchProgress(nil))
	var left *BatchError
	if !errors.As(err, &left) || left.BatchID != "batch_1" || !errors.Is(err, context.Canceled) {
		t.Errorf("%T: %v", err, err)
	}
	late, cancel := context.WithDeadline(context.Background(), time.Unix(0, 0))
	defer cancel()
	var over *BatchTimeoutError
	if err := batchError(late, "batch_1", io.EOF); !errors.As(err, &over) || over.BatchID != "batch_1" {
		t.Errorf("%T: %v", err, err)
	}
}

func TestTheSettingsOfTheEnvironment(t *testing.T) {
	t.Setenv("HELIXFLOW_API_KEY", " hflow_of_the_environment\n")
	t.Setenv("HELIXFLOW_BASE_URL", "http://user:word@127.0.0.1:1/v1/")
	client := NewClient("")
	if client.core.key() != "hflow_of_the_environment" || client.core.baseURL != "http://user:word@127.0.0.1:1/v1" {
		t.Error(client.core.key(), client.core.baseURL)
	}
	if client.String() != "helixflow.Client(http://user:xxxxx@127.0.0.1:1/v1)" {
		t.Error(client)
	}
	t.Setenv("HELIXFLOW_API_KEY", "")
	_, err := NewClient("").Models.List(context.Background())
	var missing *AuthenticationError
	if !errors.As(err, &missing) || !strings.Contains(missing.Message, "HELIXFLOW_API_KEY") {
		t.Error(err)
	}
}

func TestTheCacheForgetsTheOldestAndWhatIsTooOld(t *testing.T) {
	now := time.Unix(0, 0)
	kept := newCache(2, time.Minute)
	key := func(name byte) cacheKey { return cacheKey{name} }
	has := func(name byte) bool { _, ok := kept.get(key(name), now); return ok }
	kept.put(key('a'), &answer{}, now)
	kept.put(key('b'), &answer{}, now)
	has('a')
	kept.put(key('c'), &answer{}, now)
	if !has('a') || has('b') || !has('c') {
		t.Error("not the one that was not used for longest")
	}
	now = now.Add(time.Minute)
	if has('a') || has('c') {
		t.Error("kept for too long")
	}
}

func TestMessagesThereAndBack(t *testing.T) {
	for _, text := range []string{
		`{"role":"user","content":""}`,
		`{"role":"user","name":"Zoë","content":"Hello"}`,
		`{"role":"user","content":[{"type":"text","text":"What is this?"},{"type":"image_url","image_url":{"url":"data:,"}}]}`,
		`{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}],"content":null}`,
		`{"role":"assistant","tool_calls":[{"id":"1","type":"custom","custom":{"name":"f","input":"x"}}],"content":null}`,
	} {
		var message Message
		if err := json.Unmarshal([]byte(text), &message); err != nil {
			t.Fatal(err)
		}
		body, err := json.Marshal(message)
		if err != nil || !reflect.DeepEqual(plain(json.RawMessage(body)), plain(json.RawMessage(text))) {
			t.Errorf("%s became %s (%v)", text, body, err)
		}
	}
}
