package main

import "fmt"

// quorum draws three nodes, one of which is down, and two clients that ask them.
func quorum() string {
	c := newCanvas(760, 360, "Three nodes, one of them down",
		"A asks three nodes at once. Two are free and vote for it; the third is down. Two of three are a quorum: A holds the lock, with the token that both have counted. B asks as well, is refused by the two, and waits.")
	c.text(24, 32, "start", "h", "Three nodes with one vote each, and one of them down")
	c.text(24, 52, "start", "m", "Two of three decide. Any two quorums have a node in common, which votes for one holder at a time")
	const (
		a, b   = 110, 650 // the middles of the clients
		node   = 380
		middle = 192
	)
	client := func(x int, name, colour string, lines ...string) {
		c.box(x-86, middle-50, 172, 100, colour+"s", colour+"l")
		c.text(x, middle-24, "middle", "h", name)
		for i, l := range lines {
			c.text(x, middle+20*i, "middle", "", l)
		}
	}
	client(a, "A", "g", "2 votes of 3:", "holds the lock, token 42")
	client(b, "B", "n", "0 votes of 3:", "stands in the queue")
	for i, y := range []int{102, middle, 282} {
		if i == 2 {
			c.raw(`<rect class="rs rl dash" x="%d" y="%d" width="172" height="56" rx="6"/>`, node-86, y-28)
			c.text(node, y-4, "middle", "h", "node 3")
			c.text(node, y+15, "middle", "", "down, hung or cut off")
			c.arrow(a+86, middle+30, node-92, y, "r", "dash")
			c.arrow(b-86, middle+30, node+92, y, "r", "dash")
			continue
		}
		c.box(node-86, y-28, 172, 56, "as", "al")
		c.text(node, y-4, "middle", "h", fmt.Sprintf("node %d", i+1))
		c.text(node, y+15, "middle", "", "holder A, count 41 → 42")
		c.arrow(node-86, y, a+92, middle-24+24*i, "g", "")
		c.arrow(node+86, y, b-92, middle-24+24*i, "t", "")
	}
	for _, l := range []struct {
		x, y int
		text string
	}{
		{248, 140, "vote"}, {248, 196, "vote"}, {248, 256, "no answer"},
		{512, 140, "held by A"}, {512, 196, "held by A"}, {512, 256, "no answer"},
	} {
		c.label(l.x, l.y, l.text)
	}
	c.text(node, 340, "middle", "m", "A's lease ends a ttl after A sent its first request, less the drift of clocks: a slow answer never lengthens it")
	return c.String()
}
