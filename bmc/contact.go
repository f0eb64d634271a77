package bmc

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
)

// A contact is how far a BMC has let us come. It tells one that hangs from one
// that is not there, and one that falls silent while it is busy from one that
// never spoke to us. It is told by a conversation that may have been given up.
type contact struct {
	reached  atomic.Bool // it took our connection, or answered a greeting
	admitted atomic.Bool // it took our account
}

type contactKey struct{}

// anew returns a context for conversations with another service of a BMC.
func anew(ctx context.Context) context.Context {
	ctx, _ = withLogin(context.WithValue(ctx, contactKey{}, new(contact)))
	return ctx
}

type loginKey struct{}

// withLogin returns a context for one conversation, and whether the BMC has taken the
// account in it: that it took one before, in the same operation, says nothing of this one's.
func withLogin(ctx context.Context) (context.Context, *atomic.Bool) {
	taken := new(atomic.Bool)
	return context.WithValue(ctx, loginKey{}, taken), taken
}

// withContact returns a context whose conversations tell how far they came.
func withContact(ctx context.Context) (context.Context, *contact) {
	if c := contactOf(ctx); c != nil {
		return ctx, c
	}
	c := new(contact)
	return context.WithValue(ctx, contactKey{}, c), c
}

func contactOf(ctx context.Context) *contact {
	c, _ := ctx.Value(contactKey{}).(*contact)
	return c
}

func reached(ctx context.Context) {
	if c := contactOf(ctx); c != nil {
		c.reached.Store(true)
	}
}

func admitted(ctx context.Context) {
	reached(ctx)
	if c := contactOf(ctx); c != nil {
		c.admitted.Store(true)
	}
	if taken, ok := ctx.Value(loginKey{}).(*atomic.Bool); ok {
		taken.Store(true)
	}
}

// reason names an error; when time was up it says what for.
func reason(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return late(ctx)
	}
	err = classify(err)
	// A library may see the deadline a moment before the context does.
	if c := contactOf(ctx); c != nil && c.reached.Load() && errors.Is(err, ErrNoAnswer) {
		return fmt.Errorf("%w (%v)", ErrHangs, err)
	}
	return err
}

// late says why a conversation was ended: by its caller, or by its deadline.
func late(ctx context.Context) error {
	err := context.Cause(ctx)
	if c := contactOf(ctx); c != nil && c.reached.Load() && errors.Is(err, ErrNoAnswer) {
		return fmt.Errorf("%w", ErrHangs)
	}
	return err
}
