package matching

import "container/heap"

// taskHeap is waiting tasks, the first by pass, then by id, on top.
type taskHeap []*task

func (h taskHeap) Len() int { return len(h) }

func (h taskHeap) Less(i, j int) bool { return before(h[i].key, h[j].key) }

func (h taskHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push is for container/heap.
func (h *taskHeap) Push(x any) {
	t := x.(*task)
	t.index = len(*h)
	*h = append(*h, t)
}

// Pop is for container/heap.
func (h *taskHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	if len(*h) == 0 {
		*h = nil // a queue at rest keeps nothing
	}
	return t
}

func (h *taskHeap) add(t *task) {
	t.heap = h
	heap.Push(h, t)
}

func (h taskHeap) first() *task {
	if len(h) == 0 {
		return nil
	}
	return h[0]
}

// remove takes a task out of the heap that it is in. It is false if it is in none.
func (t *task) remove() bool {
	if t.heap == nil {
		return false
	}
	h := t.heap
	t.heap = nil
	heap.Remove(h, t.index)
	return true
}
