package matching

import (
	"time"

	"github.com/perdure/perdure/persistence"
)

// pageRead is one read of backlog rows.
type pageRead struct {
	level *backlogLevel
	after persistence.TaskKey
	// version is the level's when the read began.
	version int
	// counting: the rows are beyond what fits into memory and only counted.
	counting bool
}

// wantRead starts the reader if there is something to read. Locked by the caller.
func (p *partition) wantRead() {
	if p.reading || p.closed {
		return
	}
	if _, ok := p.nextRead(); ok {
		p.reading = true
		p.service.spawn(p.readLoop)
	}
}

// nextRead says what to read: the first level that has room, else what is yet to be counted. Locked by the caller.
func (p *partition) nextRead() (pageRead, bool) {
	if p.closed || p.backlog == nil {
		return pageRead{}, false
	}
	for _, l := range p.backlog.levels {
		if l != nil && l.wantsRead() {
			return pageRead{level: l, after: l.read, version: l.version}, true
		}
	}
	for _, l := range p.backlog.levels {
		if l != nil && l.wantsCount() {
			return pageRead{level: l, after: l.countedTo(), counting: true}, true
		}
	}
	return pageRead{}, false
}

// readLoop reads until memory is full and the rest is counted, or there is no more.
func (p *partition) readLoop() {
	for {
		p.mu.Lock()
		read, ok := p.nextRead()
		if !ok {
			p.reading = false
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		if !p.readPage(read) {
			return
		}
	}
}

// readPage is false if the read failed: it is tried again after a pause.
func (p *partition) readPage(read pageRead) bool {
	ctx, cancel := p.service.storeContext()
	defer cancel()
	rows, err := p.service.store.ReadTasks(ctx, p.key.QueueKey, read.level.level, read.after, readPage)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.service.storeFailed("read", p, err)
		p.pauseReader()
		return false
	}
	complete := len(rows) < readPage
	if read.counting {
		read.level.count(read.after, rows, complete)
		return true
	}
	for _, t := range read.level.loaded(rows, complete, read.version) {
		p.matcher.add(t)
	}
	if !p.closed {
		p.dispatch()
	}
	return true
}

// pauseReader keeps the reader's place for a while, so that a database that fails is not asked in a loop. Locked by the caller.
func (p *partition) pauseReader() {
	time.AfterFunc(storeRetryDelay, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.reading = false
		p.wantRead()
	})
}
