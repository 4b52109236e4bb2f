package matching

import (
	"time"

	"github.com/perdure/perdure/persistence"
)

// pageRead is one read of backlog rows; without a level, the rows of earlier epochs are counted.
type pageRead struct {
	level      *backlogLevel
	after      persistence.TaskKey
	generation int
	epoch      persistence.Epoch
}

// wantRead starts the reader if there is something to read. Locked by the caller.
func (p *partition) wantRead() {
	if p.reading || p.closed {
		return
	}
	if p.readNeeded() {
		p.reading = true
		p.service.spawn(p.readLoop)
	}
}

func (p *partition) readNeeded() bool {
	if p.closed || p.backlog == nil || !p.backlog.leased {
		return false
	}
	for _, l := range p.backlog.levels {
		if l.wantsRead() {
			return true
		}
	}
	return !p.backlog.counted
}

// nextRead says what to read: the first level that has room, else rows are counted. Locked by the caller.
func (p *partition) nextRead() (pageRead, bool) {
	if !p.readNeeded() {
		return pageRead{}, false
	}
	for _, l := range p.backlog.levels {
		if l.wantsRead() {
			l.reading = true
			return pageRead{level: l, after: l.read, generation: l.generation}, true
		}
	}
	return pageRead{epoch: p.backlog.epoch}, true
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
		proceed := true
		if read.level == nil {
			proceed = p.countRows(read.epoch)
		} else {
			proceed = p.readPage(read)
		}
		if !proceed {
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
		read.level.reading = false
		read.level.goBack(read.level.read) // rows that were committed meanwhile are to be read
		p.service.storeFailed("read", p, err)
		p.pauseReader()
		return false
	}
	for _, t := range read.level.loaded(rows, len(rows) < readPage, read.generation) {
		p.matcher.add(t)
	}
	if !p.closed {
		p.dispatch()
	}
	return true
}

// countRows adds the rows of earlier epochs to what the backlog holds.
func (p *partition) countRows(epoch persistence.Epoch) bool {
	ctx, cancel := p.service.storeContext()
	defer cancel()
	counts, err := p.service.store.CountTasks(ctx, p.key.QueueKey, int64(epoch)<<idCounterBits)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.service.storeFailed("count", p, err)
		p.pauseReader()
		return false
	}
	if p.backlog.epoch == epoch && !p.backlog.counted {
		p.backlog.counted = true
		for _, l := range p.backlog.levels {
			l.stored += counts[l.level]
		}
		p.wantFlush()
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
