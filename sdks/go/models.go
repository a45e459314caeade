package helixflow

import (
	"context"
	"net/http"
	"net/url"
)

// ModelService: client.Models.
type ModelService struct{ core *core }

// Model is one that the organization may use.
type Model struct {
	ResponseMeta `json:"-"`
	ID           string `json:"id"`
	Object       string `json:"object"`
	Created      int64  `json:"created"`
	OwnedBy      string `json:"owned_by"`
}

// ModelList is all of them.
type ModelList struct {
	ResponseMeta `json:"-"`
	Object       string  `json:"object"`
	Data         []Model `json:"data"`
}

// List gives all models that the key may use.
func (s *ModelService) List(ctx context.Context, options ...CallOption) (*ModelList, error) {
	return fetch[ModelList](ctx, s.core, get("/models", nil), options)
}

// Retrieve gives one model.
func (s *ModelService) Retrieve(ctx context.Context, model string, options ...CallOption) (*Model, error) {
	return byID[Model](ctx, s.core, http.MethodGet, "/models/", model, "", options)
}

// Health is that of the API. Services are healthy or unhealthy.
type Health struct {
	ResponseMeta `json:"-"`
	Status       string            `json:"status"`
	Timestamp    int64             `json:"timestamp"`
	Version      string            `json:"version"`
	Services     map[string]string `json:"services"`
}

// Health asks how the API is, and needs no key. Unhealthy is a ServiceUnavailableError.
func (c *Client) Health(ctx context.Context, options ...CallOption) (*Health, error) {
	op := get("/health", nil)
	op.open = true
	return fetch[Health](ctx, c.core, op, options)
}

func get(path string, query url.Values) *operation {
	return &operation{method: http.MethodGet, path: path, query: query}
}

// byID asks for something below path: an id, and what is to be done with it.
func byID[T any](ctx context.Context, c *core, method, path, id, verb string, options []CallOption) (*T, error) {
	named, err := segment(id)
	if err != nil {
		return nil, err
	}
	return fetch[T](ctx, c, &operation{method: method, path: path + named + verb}, options)
}
