package helixflow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The cases that all SDKs pass: sdks/contract/README.md says what their fields mean.

type object = map[string]any

type contractCase struct {
	Name   string
	Client struct {
		APIKey         string            `json:"api_key"`
		MaxRetries     *int              `json:"max_retries"`
		TimeoutS       float64           `json:"timeout_s"`
		DefaultHeaders map[string]string `json:"default_headers"`
		Cache          *struct {
			MaxEntries int     `json:"max_entries"`
			TTLS       float64 `json:"ttl_s"`
		}
	}
	Call struct {
		Method  string
		Params  object
		Options struct {
			IdempotencyKey string            `json:"idempotency_key"`
			TimeoutS       float64           `json:"timeout_s"`
			MaxRetries     *int              `json:"max_retries"`
			Headers        map[string]string `json:"headers"`
		}
		LeaveAfter int `json:"leave_after"`
		Times      int
	}
	Outcome struct {
		Result, Chunks, Error, Results object
		Waits                          *[][2]float64
		Attempts                       []object
	}
}

// played is what came out of a call.
type played struct {
	result   any
	raw      json.RawMessage
	chunks   []any
	text     string
	results  *BatchResults
	progress int
	err      error
	waits    []time.Duration
	attempts []Attempt
}

func TestContract(t *testing.T) {
	server := os.Getenv("HELIXFLOW_CONTRACT_URL")
	if server == "" {
		t.Skip("HELIXFLOW_CONTRACT_URL is not set: start sdks/contract/server.py")
	}
	files, err := filepath.Glob("../contract/cases/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("there are no cases")
	}
	run := fmt.Sprintf("go-%d", time.Now().UnixNano())
	for _, file := range files {
		var contract contractCase
		readJSON(t, file, &contract)
		t.Run(contract.Name, func(t *testing.T) {
			t.Parallel()
			address := fmt.Sprintf("%s/%s/%s", server, run, contract.Name)
			key := contract.Client.APIKey
			if key == "" {
				key = "hflow_contract_key_that_opens_nothing"
			}
			found := &played{}
			client := contract.newClient(address+"/v1", key, found)
			for times := 0; times == 0 || times < contract.Call.Times; times++ {
				found.chunks, found.text = nil, ""
				contract.play(t, client, found)
			}
			contract.compare(t, found)
			text := fmt.Sprintf("%v %+v %#v %s %v %+v %#v", client, *client, client, client, found.err, found.attempts, found.attempts)
			var api *APIError
			if errors.As(found.err, &api) {
				text += fmt.Sprintf("%+v %s %s", *api, api.Body, api.Message)
			}
			if strings.Contains(text, key) {
				t.Errorf("the key is told: %s", text)
			}
			for _, complaint := range verdict(t, address) {
				t.Error(complaint)
			}
		})
	}
}

func (c *contractCase) newClient(address, key string, found *played) *Client {
	options := []Option{
		WithBaseURL(address),
		WithHTTPClient(&http.Client{Transport: transport().Clone()}),
		WithHook(func(_ context.Context, attempt Attempt) { found.attempts = append(found.attempts, attempt) }),
	}
	if c.Client.MaxRetries != nil {
		options = append(options, WithMaxRetries(*c.Client.MaxRetries))
	}
	if c.Client.TimeoutS != 0 {
		options = append(options, WithTimeout(seconds(c.Client.TimeoutS)))
	}
	for name, value := range c.Client.DefaultHeaders {
		options = append(options, WithHeader(name, value))
	}
	if c.Client.Cache != nil {
		options = append(options, WithCache(c.Client.Cache.MaxEntries, seconds(c.Client.Cache.TTLS)))
	}
	client := NewClient(key, options...)
	client.core.sleep = func(ctx context.Context, duration time.Duration) error {
		found.waits = append(found.waits, duration)
		return sleep(ctx, duration/100)
	}
	return client
}

func (c *contractCase) callOptions() []CallOption {
	var options []CallOption
	given := c.Call.Options
	if given.IdempotencyKey != "" {
		options = append(options, IdempotencyKey(given.IdempotencyKey))
	}
	if given.TimeoutS != 0 {
		options = append(options, Timeout(seconds(given.TimeoutS)))
	}
	if given.MaxRetries != nil {
		options = append(options, MaxRetries(*given.MaxRetries))
	}
	for name, value := range given.Headers {
		options = append(options, Header(name, value))
	}
	return options
}

func (c *contractCase) play(t *testing.T, client *Client, found *played) {
	ctx := context.Background()
	params, _ := expand(c.Call.Params).(object)
	options := c.callOptions()
	text := func(name string) string { value, _ := params[name].(string); return value }
	number := func(name string) int { value, _ := params[name].(float64); return int(value) }
	moment := func(name string) time.Time { value, _ := time.Parse(time.RFC3339, text(name)); return value }
	batchOptions := []BatchOption{BatchProgress(func(*Batch) { found.progress++ })}
	if c.Call.Options.TimeoutS != 0 {
		batchOptions = append(batchOptions, BatchTimeout(seconds(c.Call.Options.TimeoutS)))
	}
	var result any
	var err error
	switch method := c.Call.Method; method {
	case "chat.completions.create":
		request := ChatCompletionRequest{}
		request.Extra = decode(t, params, &request)
		if params["stream"] == true {
			stream, err := client.CreateChatCompletionStream(ctx, request, options...)
			read(found, stream, err, c.Call.LeaveAfter, (*ChatCompletionChunk).Text)
			return
		}
		result, err = client.CreateChatCompletion(ctx, request, options...)
	case "completions.create":
		request := CompletionRequest{}
		request.Extra = decode(t, params, &request)
		if params["stream"] == true {
			stream, err := client.CreateCompletionStream(ctx, request, options...)
			read(found, stream, err, c.Call.LeaveAfter, func(chunk *Completion) string { return chunk.Choices[0].Text })
			return
		}
		result, err = client.CreateCompletion(ctx, request, options...)
	case "embeddings.create":
		request := EmbeddingRequest{}
		request.Extra = decode(t, params, &request)
		result, err = client.CreateEmbeddings(ctx, request, options...)
	case "models.list":
		result, err = client.Models.List(ctx, options...)
	case "models.retrieve":
		result, err = client.Models.Retrieve(ctx, text("model"), options...)
	case "health":
		result, err = client.Health(ctx, options...)
	case "files.create":
		file := params["file"].(object)
		request := FileRequest{File: strings.NewReader(file["text"].(string)), Filename: file["filename"].(string), Purpose: text("purpose")}
		result, err = client.Files.Create(ctx, request, options...)
	case "files.list":
		result, err = client.Files.List(ctx, FileQuery{number("limit"), text("after"), text("purpose")}, options...)
	case "files.retrieve":
		result, err = client.Files.Retrieve(ctx, text("file_id"), options...)
	case "files.delete":
		result, err = client.Files.Delete(ctx, text("file_id"), options...)
	case "files.content":
		var content []byte
		content, err = client.Files.Content(ctx, text("file_id"), options...)
		result = object{"text": string(content)}
	case "batches.create":
		request := BatchCreateRequest{}
		request.Extra = decode(t, params, &request)
		delete(request.Extra, "requests")
		switch _, inline := params["requests"]; {
		case inline && params["endpoint"] == embeddingEndpoint:
			request.Embeddings = embeddingsOf(t, params)
		case inline:
			request.Requests = requestsOf(t, params)
		}
		result, err = client.Batches.Create(ctx, request, options...)
	case "batches.list":
		result, err = client.Batches.List(ctx, BatchQuery{number("limit"), text("after")}, options...)
	case "batches.retrieve":
		result, err = client.Batches.Retrieve(ctx, text("batch_id"), options...)
	case "batches.cancel":
		result, err = client.Batches.Cancel(ctx, text("batch_id"), options...)
	case "batches.retry":
		result, err = client.Batches.Retry(ctx, text("batch_id"), options...)
	case "batches.results":
		result, err = client.Batches.Results(ctx, text("batch_id"), BatchQuery{number("limit"), text("after")}, options...)
	case "batch.process":
		if given, ok := params["metadata"].(object); ok {
			metadata := map[string]string{}
			for name, value := range given {
				metadata[name] = value.(string)
			}
			batchOptions = append(batchOptions, BatchMetadata(metadata))
		}
		if params["endpoint"] == embeddingEndpoint {
			found.results, err = client.Batch.ProcessEmbeddings(ctx, embeddingsOf(t, params), batchOptions...)
		} else {
			found.results, err = client.Batch.Process(ctx, requestsOf(t, params), batchOptions...)
		}
	case "batch.results":
		found.results, err = client.Batch.Results(ctx, text("batch_id"), batchOptions...)
	case "batch.wait":
		result, err = client.Batch.Wait(ctx, text("batch_id"), batchOptions...)
	case "usage.retrieve":
		result, err = client.Usage.Retrieve(ctx, options...)
	case "usage.timeseries":
		query := TimeseriesQuery{moment("start"), moment("end"), text("bucket"), text("group_by"), text("api_key"), text("model")}
		result, err = client.Usage.Timeseries(ctx, query, options...)
	case "requests.list":
		query := RequestQuery{Limit: number("limit"), Cursor: text("cursor"), Status: text("status"), Model: text("model")}
		var page *RequestList
		if page, err = client.Requests.List(ctx, query, options...); err == nil {
			result = object{"data": page.Data, "next_cursor": page.NextCursor}
		}
	case "requests.retrieve":
		result, err = client.Requests.Retrieve(ctx, text("request_id"), options...)
	default:
		t.Fatalf("no method %s", method)
	}
	found.result, found.err = result, err
	if described, ok := result.(described); ok && err == nil {
		found.raw = described.meta().Raw
	}
}

// read takes a stream to its end, or leaves it early.
func read[T any](found *played, stream *Stream[T], err error, leaveAfter int, text func(*T) string) {
	if found.err = err; err != nil {
		return
	}
	defer stream.Close()
	for leaveAfter == 0 || len(found.chunks) < leaveAfter {
		chunk, err := stream.Recv()
		if err == io.EOF {
			return
		}
		if found.err = err; err != nil {
			return
		}
		found.chunks = append(found.chunks, chunk)
		found.text += text(chunk)
	}
}

// decode fills a request and returns the parameters that it has no field for.
func decode(t *testing.T, params object, request any) object {
	t.Helper()
	fields := map[string]bool{}
	structure := reflect.TypeOf(request).Elem()
	for index := 0; index < structure.NumField(); index++ {
		name, _, _ := strings.Cut(structure.Field(index).Tag.Get("json"), ",")
		fields[name] = true
	}
	known, extra := object{}, object{}
	for name, value := range params {
		_, isText := value.(string)
		switch {
		case name == "stream" && value == true:
		case !fields[name] || (name == "stop" && isText):
			extra[name] = value
		default:
			known[name] = value
		}
	}
	body, _ := json.Marshal(known)
	if err := json.Unmarshal(body, request); err != nil {
		t.Fatal(err)
	}
	return extra
}

func requestsOf(t *testing.T, params object) (requests []ChatCompletionRequest) {
	for _, item := range params["requests"].([]any) {
		request := ChatCompletionRequest{}
		request.Extra = decode(t, item.(object), &request)
		request.CustomID = nameIn(request.Extra)
		requests = append(requests, request)
	}
	return requests
}

func embeddingsOf(t *testing.T, params object) (requests []EmbeddingRequest) {
	for _, item := range params["requests"].([]any) {
		request := EmbeddingRequest{}
		request.Extra = decode(t, item.(object), &request)
		request.CustomID = nameIn(request.Extra)
		requests = append(requests, request)
	}
	return requests
}

// nameIn takes a request's name out of the fields that it has no place for.
func nameIn(extra object) string {
	name, _ := extra["custom_id"].(string)
	delete(extra, "custom_id")
	return name
}

func expand(value any) any {
	switch value := value.(type) {
	case []any:
		for index := range value {
			value[index] = expand(value[index])
		}
	case object:
		if count, ok := value["$repeat"].(float64); ok {
			from, ok := value["from"].(float64)
			if !ok {
				from = 1
			}
			each, _ := json.Marshal(value["each"])
			var list []any
			for number := 0; number < int(count); number++ {
				var entry any
				text := strings.ReplaceAll(string(each), "{n}", strconv.Itoa(int(from)+number))
				_ = json.Unmarshal([]byte(text), &entry)
				list = append(list, entry)
			}
			return list
		}
		for name := range value {
			value[name] = expand(value[name])
		}
	}
	return value
}

func verdict(t *testing.T, address string) []string {
	response, err := http.Get(address + "/verdict")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var found struct{ Complaints []string }
	if err := json.NewDecoder(response.Body).Decode(&found); err != nil {
		t.Fatal(err)
	}
	return found.Complaints
}

func readJSON(t *testing.T, path string, into any) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
