package helixflow

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
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
		if _, ok := params["requests"]; ok {
			delete(request.Extra, "requests")
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
		found.results, err = client.Batch.Process(ctx, requestsOf(t, params), batchOptions...)
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

func (c *contractCase) compare(t *testing.T, found *played) {
	want := c.Outcome
	if want.Error == nil && found.err != nil {
		t.Errorf("failed: %v", found.err)
		return
	}
	switch {
	case want.Error != nil:
		compareError(t, want.Error, found)
	case want.Result != nil:
		compareResult(t, want.Result, found)
	case want.Chunks != nil:
		if count, ok := want.Chunks["count"].(float64); ok && int(count) != len(found.chunks) {
			t.Errorf("%d chunks, expected %v", len(found.chunks), count)
		}
		if text, ok := want.Chunks["text"].(string); ok && text != found.text {
			t.Errorf("text %q, expected %q", found.text, text)
		}
		compareEach(t, want.Chunks, plain(found.chunks))
	case want.Results != nil:
		compareResults(t, want.Results, found)
		if c.Call.Method == "batch.process" && found.progress == 0 {
			t.Error("no progress was told")
		}
	}
	if want.Waits != nil {
		if len(*want.Waits) != len(found.waits) {
			t.Errorf("waits %v, expected %v", found.waits, *want.Waits)
		}
		for index, bounds := range *want.Waits {
			if index < len(found.waits) {
				within(t, "wait", found.waits[index].Seconds(), bounds)
			}
		}
	}
	if want.Attempts != nil {
		compareAttempts(t, want.Attempts, found.attempts)
	}
}

func compareResult(t *testing.T, want object, found *played) {
	typed, raw := plain(found.result), plain(found.raw)
	for path, value := range section(want, "pick") {
		got := pick(typed, path)
		if got == nil {
			got = pick(raw, path) // a field that the types don't know
		}
		same(t, path, got, value)
	}
	for path, count := range section(want, "length") {
		list, _ := pick(typed, path).([]any)
		same(t, path+" length", float64(len(list)), count)
	}
}

func compareResults(t *testing.T, want object, found *played) {
	results := found.results
	same(t, "count", float64(len(results.Results)), want["count"])
	same(t, "succeeded", float64(len(results.Succeeded())), want["succeeded"])
	same(t, "failed", float64(len(results.Failed())), want["failed"])
	var list []object
	for _, result := range results.Results {
		entry := object{"id": result.ID, "custom_id": result.CustomID, "response": nil, "error": nil}
		if response, err := result.Completion(); err != nil {
			entry["error"] = facts(err)
		} else {
			entry["response"] = response
		}
		list = append(list, entry)
	}
	compareEach(t, want, plain(list))
}

func compareEach(t *testing.T, want object, list any) {
	for path, value := range section(want, "pick") {
		same(t, path, pick(list, path), value)
	}
}

func compareError(t *testing.T, want object, found *played) {
	if found.err == nil {
		t.Errorf("no error, expected %v", want)
		return
	}
	if name := want["type"].(string); !isA(found.err, name) {
		t.Errorf("%T is no %s: %v", found.err, name, found.err)
	}
	got := plain(facts(found.err)).(object)
	for name, value := range want {
		switch bounds, isRange := value.([]any); {
		case name == "type":
		case name == "after_chunks":
			same(t, name, float64(len(found.chunks)), value)
		case isRange:
			given, _ := got[name].(float64)
			within(t, name, given, [2]float64{bounds[0].(float64), bounds[1].(float64)})
		default:
			same(t, name, got[name], value)
		}
	}
}

// facts are an error's fields, null for those that are not there.
func facts(err error) object {
	var api *APIError
	if !errors.As(err, &api) {
		return object{}
	}
	found := object{"code": api.Code, "status": api.Status, "message": api.Message, "request_id": api.RequestID,
		"details": api.Details, "param": api.Param, "retry_after": api.RetryAfter.Seconds()}
	for name, value := range found {
		if reflect.ValueOf(value).IsZero() {
			found[name] = nil
		}
	}
	return found
}

func compareAttempts(t *testing.T, want []object, got []Attempt) {
	if len(want) != len(got) {
		t.Errorf("%d attempts, expected %d: %+v", len(got), len(want), got)
		return
	}
	for index, fields := range want {
		attempt := got[index]
		path := attempt.Path[strings.Index(attempt.Path, "/v1/"):]
		told := plain(object{"method": attempt.Method, "path": path, "status": attempt.Status, "attempt": attempt.Number,
			"request_id": attempt.RequestID, "model": attempt.Model, "usage": attempt.Usage}).(object)
		for name, value := range fields {
			if name == "error" && value != nil {
				if !isA(attempt.Err, value.(string)) {
					t.Errorf("attempt %d ended with %T, expected %v", index, attempt.Err, value)
				}
				continue
			}
			if name == "usage" && value != nil {
				for path, expected := range value.(object) {
					same(t, "usage."+path, pick(told["usage"], path), expected)
				}
				continue
			}
			same(t, name, told[name], value)
		}
	}
}

// isA is whether errors.As finds the type of this name.
func isA(err error, name string) bool {
	targets := map[string]any{
		"APIError": new(*APIError), "APIConnectionError": new(*APIConnectionError), "APITimeoutError": new(*APITimeoutError),
		"APIStatusError": new(*APIStatusError), "InvalidRequestError": new(*InvalidRequestError),
		"NotFoundError": new(*NotFoundError), "ModelNotFoundError": new(*ModelNotFoundError),
		"AuthenticationError": new(*AuthenticationError), "InvalidAPIKeyError": new(*InvalidAPIKeyError),
		"PermissionDeniedError": new(*PermissionDeniedError), "RateLimitError": new(*RateLimitError),
		"InsufficientQuotaError": new(*InsufficientQuotaError), "ServerError": new(*ServerError),
		"ServiceUnavailableError": new(*ServiceUnavailableError), "ServiceTimeoutError": new(*ServiceTimeoutError),
	}
	return err != nil && errors.As(err, targets[name])
}

func TestContractSignatures(t *testing.T) {
	type entry struct {
		Name       string
		Payload    string
		Encoded    string `json:"payload_base64"`
		Headers    map[string]string
		Secrets    []string
		Now        int64
		ToleranceS float64 `json:"tolerance_s"`
		Valid      bool
		Reason     string
		Event      object
		Helper     bool
		Signature  string
		Secret     string
	}
	var entries []entry
	readJSON(t, "../contract/signatures.json", &entries)
	for _, entry := range entries {
		t.Run(entry.Name, func(t *testing.T) {
			payload := []byte(entry.Payload)
			if entry.Encoded != "" {
				payload, _ = base64.StdEncoding.DecodeString(entry.Encoded)
			}
			if entry.Helper {
				same(t, "valid", VerifyWebhookSignature(payload, entry.Signature, entry.Secret), entry.Valid)
				return
			}
			header := http.Header{}
			for name, value := range entry.Headers {
				header.Set(name, value)
			}
			verifier := WebhookVerifier{entry.Secrets, seconds(entry.ToleranceS), func() time.Time { return time.Unix(entry.Now, 0) }}
			event, err := verifier.Verify(payload, header)
			var refused *WebhookVerificationError
			switch {
			case entry.Valid && err != nil:
				t.Error(err)
			case entry.Valid:
				got := plain(event).(object)
				got["id"] = nil
				if event.ID != "" {
					got["id"] = event.ID
				}
				for name, value := range entry.Event {
					same(t, name, got[name], value)
				}
			case !errors.As(err, &refused):
				t.Errorf("not refused: %v", err)
			default:
				same(t, "reason", refused.Reason, entry.Reason)
			}
		})
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

func requestsOf(t *testing.T, params object) []ChatCompletionRequest {
	var requests []ChatCompletionRequest
	for _, item := range params["requests"].([]any) {
		request := ChatCompletionRequest{}
		request.Extra = decode(t, item.(object), &request)
		request.CustomID, _ = request.Extra["custom_id"].(string)
		delete(request.Extra, "custom_id")
		requests = append(requests, request)
	}
	return requests
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

// plain is a value as its JSON reads.
func plain(value any) any {
	body, _ := json.Marshal(value)
	var found any
	_ = json.Unmarshal(body, &found)
	return found
}

func pick(value any, path string) any {
	for _, name := range strings.Split(path, ".") {
		switch inner := value.(type) {
		case object:
			value = inner[name]
		case []any:
			index, err := strconv.Atoi(name)
			if err != nil || index >= len(inner) {
				return nil
			}
			value = inner[index]
		default:
			return nil
		}
	}
	return value
}

func same(t *testing.T, name string, got, want any) {
	t.Helper()
	if pattern, ok := want.(string); ok && strings.HasPrefix(pattern, "^") {
		text, _ := got.(string)
		if !regexp.MustCompile("(?s)" + pattern).MatchString(text) {
			t.Errorf("%s is %v, expected %s", name, got, pattern)
		}
		return
	}
	if want == nil && got != nil && reflect.ValueOf(got).IsZero() {
		return // null is the zero value here
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s is %#v, expected %#v", name, got, want)
	}
}

func within(t *testing.T, name string, got float64, bounds [2]float64) {
	t.Helper()
	if got < bounds[0] || got > bounds[1] {
		t.Errorf("%s is %v, expected %v", name, got, bounds)
	}
}

func section(from object, name string) object {
	found, _ := from[name].(object)
	return found
}

func seconds(count float64) time.Duration { return time.Duration(count * float64(time.Second)) }

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
