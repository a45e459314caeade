package helixflow

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
)

// FileService: client.Files.
type FileService struct{ core *core }

// File is one that was uploaded, or a batch's results.
type File struct {
	ResponseMeta `json:"-"`
	ID           string `json:"id"`
	Object       string `json:"object"`
	Bytes        int64  `json:"bytes"`
	CreatedAt    int64  `json:"created_at"`
	ExpiresAt    *int64 `json:"expires_at,omitempty"`
	Filename     string `json:"filename"`
	Purpose      string `json:"purpose"`
	Status       string `json:"status"`
}

// FileList is a page of files. The next one is after LastID.
type FileList struct {
	ResponseMeta `json:"-"`
	Object       string `json:"object"`
	Data         []File `json:"data"`
	FirstID      string `json:"first_id"`
	LastID       string `json:"last_id"`
	HasMore      bool   `json:"has_more"`
}

// Deleted says that something is gone.
type Deleted struct {
	ResponseMeta `json:"-"`
	ID           string `json:"id"`
	Object       string `json:"object"`
	Deleted      bool   `json:"deleted"`
}

// FileRequest uploads a file. Its name is that of an *os.File where Filename is empty.
type FileRequest struct {
	File     io.Reader
	Filename string
	Purpose  string // batch, if empty
}

// FileQuery chooses a page of files. What is empty is not asked for.
type FileQuery struct {
	Limit   int
	After   string
	Purpose string
}

// Create uploads a file. What can't be read at any place, such as a pipe, is read into memory first.
func (s *FileService) Create(ctx context.Context, request FileRequest, options ...CallOption) (*File, error) {
	body, err := multipartBody(request)
	if err != nil {
		return nil, unreadable(err)
	}
	return fetch[File](ctx, s.core, &operation{method: http.MethodPost, path: "/files", body: body}, options)
}

// List gives a page of files, newest first.
func (s *FileService) List(ctx context.Context, query FileQuery, options ...CallOption) (*FileList, error) {
	values := pageValues(query.Limit, query.After)
	set(values, "purpose", query.Purpose)
	return fetch[FileList](ctx, s.core, get("/files", values), options)
}

// Retrieve gives one file, without its content.
func (s *FileService) Retrieve(ctx context.Context, id string, options ...CallOption) (*File, error) {
	return byID[File](ctx, s.core, http.MethodGet, "/files/", id, "", options)
}

// Content gives what is in a file.
func (s *FileService) Content(ctx context.Context, id string, options ...CallOption) ([]byte, error) {
	content, err := byID[[]byte](ctx, s.core, http.MethodGet, "/files/", id, "/content", options)
	if err != nil {
		return nil, err
	}
	return *content, nil
}

// Delete removes a file.
func (s *FileService) Delete(ctx context.Context, id string, options ...CallOption) (*Deleted, error) {
	return byID[Deleted](ctx, s.core, http.MethodDelete, "/files/", id, "", options)
}

// multipartBody reads the file anew for each try, without holding all of it in memory.
func multipartBody(request FileRequest) (*payload, error) {
	if request.File == nil {
		return nil, fmt.Errorf("File is nil")
	}
	if named, ok := request.File.(interface{ Name() string }); ok && request.Filename == "" {
		request.Filename = filepath.Base(named.Name())
	}
	if request.Filename == "" {
		request.Filename = "upload.jsonl"
	}
	if request.Purpose == "" {
		request.Purpose = "batch"
	}
	content, size, err := anywhere(request.File)
	if err != nil {
		return nil, err
	}
	var head, tail bytes.Buffer
	form := multipart.NewWriter(&head)
	if err := form.WriteField("purpose", request.Purpose); err != nil {
		return nil, err
	}
	if _, err := form.CreateFormFile("file", request.Filename); err != nil {
		return nil, err
	}
	fmt.Fprintf(&tail, "\r\n--%s--\r\n", form.Boundary())
	return &payload{
		contentType: form.FormDataContentType(),
		size:        int64(head.Len()) + size + int64(tail.Len()),
		open: func() io.Reader {
			start, end := bytes.NewReader(head.Bytes()), bytes.NewReader(tail.Bytes())
			return io.MultiReader(start, io.NewSectionReader(content, 0, size), end)
		},
	}, nil
}

// anywhere is a file that tries can read side by side, and its size; from where it stands, as copying would.
func anywhere(file io.Reader) (io.ReaderAt, int64, error) {
	at, isAt := file.(io.ReaderAt)
	seeker, isSeeker := file.(io.Seeker)
	if isAt && isSeeker {
		start, startErr := seeker.Seek(0, io.SeekCurrent)
		end, endErr := seeker.Seek(0, io.SeekEnd)
		if startErr == nil && endErr == nil {
			return io.NewSectionReader(at, start, end-start), end - start, nil
		}
	}
	content, err := io.ReadAll(file)
	return bytes.NewReader(content), int64(len(content)), err
}

func unreadable(err error) error {
	return typed(&APIError{Code: "invalid_request", Message: "The file can't be read: " + err.Error()})
}

func pageValues(limit int, after string) url.Values {
	values := url.Values{}
	if limit != 0 {
		values.Set("limit", strconv.Itoa(limit))
	}
	set(values, "after", after)
	return values
}

func set(values url.Values, name, value string) {
	if value != "" {
		values.Set(name, value)
	}
}
