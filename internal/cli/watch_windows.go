package cli

import "os"

// terminalSignals: Windows sends none. The size is seen at the next drawing.
type terminalSignals struct {
	resized, suspend, quit chan os.Signal
}

func watchTerminal() terminalSignals { return terminalSignals{} }

func (terminalSignals) stop() {}

func (terminalSignals) sleep() {}
