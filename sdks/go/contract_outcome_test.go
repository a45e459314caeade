package helixflow

import (
	"encoding/json"
	"errors"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What came out of a case beside what was to come out of it.

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
		switch {
		case result.Err != nil:
			entry["error"] = facts(result.Err)
		case result.Embeddings != nil:
			entry["response"] = result.Embeddings
		default:
			entry["response"], _ = result.Completion()
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
