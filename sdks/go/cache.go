package helixflow

import (
	"container/list"
	"crypto/sha256"
	"io"
	"sync"
	"time"
)

// cache keeps the answers that were used last, as they came. Each reader decodes a copy of their own.
type cache struct {
	mutex   sync.Mutex
	most    int
	ttl     time.Duration
	byKey   map[cacheKey]*list.Element
	entries *list.List // of *cacheEntry, last used first
}

type cacheKey [sha256.Size]byte

type cacheEntry struct {
	key     cacheKey
	answer  *answer
	expires time.Time
}

func newCache(most int, ttl time.Duration) *cache {
	return &cache{most: most, ttl: ttl, byKey: map[cacheKey]*list.Element{}, entries: list.New()}
}

func keyOf(op *operation) cacheKey {
	digest := sha256.New()
	_, _ = io.WriteString(digest, op.path+"\n")
	_, _ = io.Copy(digest, op.body.open())
	var key cacheKey
	digest.Sum(key[:0])
	return key
}

func (c *cache) get(key cacheKey, now time.Time) (*answer, bool) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	found, ok := c.byKey[key]
	if !ok {
		return nil, false
	}
	entry := found.Value.(*cacheEntry)
	if !now.Before(entry.expires) {
		c.drop(found)
		return nil, false
	}
	c.entries.MoveToFront(found)
	return entry.answer.clone(), true
}

func (c *cache) put(key cacheKey, answer *answer, now time.Time) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if found, ok := c.byKey[key]; ok {
		c.drop(found)
	}
	c.byKey[key] = c.entries.PushFront(&cacheEntry{key, answer.clone(), now.Add(c.ttl)})
	for c.entries.Len() > c.most {
		c.drop(c.entries.Back())
	}
}

func (c *cache) drop(element *list.Element) {
	delete(c.byKey, element.Value.(*cacheEntry).key)
	c.entries.Remove(element)
}

func (a *answer) clone() *answer {
	return &answer{a.status, a.header.Clone(), append([]byte(nil), a.body...)}
}
