package frame

// TCP flags (RFC 9293 §3.1).
const (
	flagFIN = 1 << 0
	flagSYN = 1 << 1
	flagRST = 1 << 2
	flagPSH = 1 << 3
	flagURG = 1 << 5
	flagCWR = 1 << 7
)
