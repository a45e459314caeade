package helixflow

import (
	"encoding/json"
	"fmt"
)

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
	Err      error
	Body     json.RawMessage // as it came

	// The one of the batch's endpoint; none with an Err.
	Response   *ChatCompletion
	Text       *Completion
	Embeddings *EmbeddingResponse
}

// Completion is the response or the error, as CreateChatCompletion would have returned them: of a batch of chats.
func (r BatchResult) Completion() (*ChatCompletion, error) { return r.Response, r.Err }

// result reads an item: its answer, or an error as a single call would have met it.
func (c *core) result(item BatchItem, endpoint string) BatchResult {
	result := BatchResult{ID: item.ID, CustomID: item.CustomID}
	failed := &APIError{}
	if item.Response != nil {
		result.Body = item.Response.Body
		failed.Status, failed.RequestID, failed.Body = item.Response.StatusCode, item.Response.RequestID, result.Body
	}
	switch {
	case item.Error == nil && item.Response != nil && item.Response.StatusCode < 400:
		if err := result.read(endpoint, item.Response.RequestID); err != nil {
			failed.Message = "The answer makes no sense: " + err.Error()
			return BatchResult{ID: item.ID, CustomID: item.CustomID, Body: result.Body, Err: failed}
		}
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

// read puts the body where answers of this endpoint belong.
func (r *BatchResult) read(endpoint, requestID string) error {
	var response described
	switch endpoint {
	case completionEndpoint:
		r.Text = &Completion{}
		response = r.Text
	case embeddingEndpoint:
		r.Embeddings = &EmbeddingResponse{}
		response = r.Embeddings
	default:
		r.Response = &ChatCompletion{}
		response = r.Response
	}
	*response.meta() = ResponseMeta{RequestID: requestID, Raw: r.Body}
	return json.Unmarshal(r.Body, response)
}
