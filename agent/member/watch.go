package member

import (
	"os"
	"path/filepath"
	"sync"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/agent/endpoint"
)

// watch learns at once when a container may have ended, and has the member look:
//
//	its process ends ....................... a pidfd becomes readable
//	its namespace's file goes, or another comes in its place .... inotify of the directory
//	its namespace ends ..................... the port's device is gone (package agent)
//
// The device alone would not do: another process may keep the namespace, or this one, which holds that of a device that it took up again.
// Whatever all three miss, the audit finds.
type watch struct {
	look func()

	running sync.WaitGroup
	ends    map[process]*os.File // pidfds
	folders *fsnotify.Watcher    // nil before the first, and on a host that has no more of them

	mu    sync.Mutex
	files map[string]bool // in the folders
}

// process is that of one container, and of no later one.
type process struct {
	pid   int
	space endpoint.Space
}

// follow watches these endpoints' containers and no others. It is called by one goroutine at a time.
func (w *watch) follow(all []*endpoint.Endpoint) {
	ends, files, folders := make(map[process]bool), make(map[string]bool), make(map[string]bool)
	for _, e := range all {
		switch c := &e.Container; {
		case c.PID != 0:
			ends[process{c.PID, c.Space}] = true
		case c.NetNS != "":
			files[c.NetNS] = true
			folders[filepath.Dir(c.NetNS)] = true
		}
	}
	for p, f := range w.ends {
		if !ends[p] {
			_ = f.Close() // its goroutine ends
			delete(w.ends, p)
		}
	}
	for p := range ends {
		if w.ends[p] == nil {
			w.await(p)
		}
	}
	w.mu.Lock()
	w.files = files
	w.mu.Unlock()
	w.enter(folders)
}

// await has the member look when a process ends. One that has ended already is the audit's.
func (w *watch) await(p process) {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		return
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that the runtime waits for it, and not a thread
		_ = unix.Close(fd)
		return
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	conn, err := f.SyscallConn()
	if err != nil {
		_ = f.Close()
		return
	}
	if w.ends == nil {
		w.ends = make(map[process]*os.File)
	}
	w.ends[p] = f
	w.running.Go(func() {
		err := conn.Read(func(fd uintptr) bool {
			polls := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(polls, 0)
			return err == nil && n == 1
		})
		if err == nil { // else it was closed
			w.look()
		}
	})
}

// enter watches these folders and no others.
func (w *watch) enter(folders map[string]bool) {
	if w.folders == nil {
		if len(folders) == 0 {
			return
		}
		f, err := fsnotify.NewWatcher()
		if err != nil {
			return // the host's limit of them is reached: another time
		}
		w.folders = f
		w.running.Go(func() { w.notice(f) })
	}
	for _, have := range w.folders.WatchList() {
		if !folders[have] {
			_ = w.folders.Remove(have) // it may have gone by itself
		}
		delete(folders, have)
	}
	for folder := range folders {
		_ = w.folders.Add(folder) // where that is impossible, as in /proc, the others do
	}
}

// notice has the member look when a namespace's file is another one, or none.
func (w *watch) notice(f *fsnotify.Watcher) {
	for {
		select {
		case e, ok := <-f.Events:
			if !ok {
				return
			}
			w.mu.Lock()
			ours := w.files[e.Name]
			w.mu.Unlock()
			if ours && !e.Has(fsnotify.Chmod) {
				w.look()
			}
		case _, ok := <-f.Errors:
			if !ok {
				return
			}
			w.look() // events were lost
		}
	}
}

// close ends all and waits.
func (w *watch) close() {
	w.follow(nil)
	if w.folders != nil {
		_ = w.folders.Close()
	}
	w.running.Wait()
}
