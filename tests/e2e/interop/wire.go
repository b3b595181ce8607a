package main

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Bytes of protocol buffers by hand: nothing here comes from the server's own definitions, so a number that is wrong there
// is found here. Field numbers are those of the DAOS 2.8 control plane.

// message is bytes that go over the wire as they are. It is a message to grpc-go's usual codec, so that requests have the
// content type that dmg's have.
type message struct{ bytes []byte }

func (m *message) Reset()                   { m.bytes = nil }
func (m *message) String() string           { return fmt.Sprintf("%x", m.bytes) }
func (*message) ProtoMessage()              {}
func (m *message) Marshal() ([]byte, error) { return m.bytes, nil }
func (m *message) Unmarshal(b []byte) error { m.bytes = append([]byte(nil), b...); return nil }

func varint(v uint64) []byte {
	buffer := make([]byte, binary.MaxVarintLen64)
	return buffer[:binary.PutUvarint(buffer, v)]
}

func join(parts ...[]byte) []byte {
	var all []byte
	for _, part := range parts {
		all = append(all, part...)
	}
	return all
}

func num(field int, v uint64) []byte { return join(varint(uint64(field)<<3), varint(v)) }

func flag(field int) []byte { return num(field, 1) }

func sub(field int, b []byte) []byte {
	return join(varint(uint64(field)<<3|2), varint(uint64(len(b))), b)
}

func text(field int, s string) []byte { return sub(field, []byte(s)) }

// packed is how proto3 repeats numbers.
func packed(field int, values ...uint64) []byte {
	var all []byte
	for _, v := range values {
		all = append(all, varint(v)...)
	}
	return sub(field, all)
}

func doubles(field int, values ...float64) []byte {
	all := make([]byte, 8*len(values))
	for i, v := range values {
		binary.LittleEndian.PutUint64(all[8*i:], math.Float64bits(v))
	}
	return sub(field, all)
}

// fields is a message that was read: numbers and bytes by field, in their order.
type fields struct {
	numbers map[int][]uint64
	bytes   map[int][][]byte
}

func read(b []byte) fields {
	f := fields{map[int][]uint64{}, map[int][][]byte{}}
	take := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			fail("no varint at %x", b)
		}
		b = b[n:]
		return v
	}
	for len(b) > 0 {
		key := take()
		field := int(key >> 3)
		switch key & 7 {
		case 0:
			f.numbers[field] = append(f.numbers[field], take())
		case 1:
			f.numbers[field] = append(f.numbers[field], binary.LittleEndian.Uint64(b))
			b = b[8:]
		case 2:
			size := take()
			f.bytes[field] = append(f.bytes[field], b[:size])
			b = b[size:]
		case 5:
			f.numbers[field] = append(f.numbers[field], uint64(binary.LittleEndian.Uint32(b)))
			b = b[4:]
		default:
			fail("wire type %d of field %d", key&7, field)
		}
	}
	return f
}

// number is the last one of a field, 0 if there is none.
func (f fields) number(field int) uint64 {
	if all := f.numbers[field]; len(all) > 0 {
		return all[len(all)-1]
	}
	return 0
}

func (f fields) text(field int) string {
	if all := f.bytes[field]; len(all) > 0 {
		return string(all[len(all)-1])
	}
	return ""
}

func (f fields) has(field int) bool { return len(f.bytes[field])+len(f.numbers[field]) > 0 }

// list is a repeated number, packed or not.
func (f fields) list(field int) []uint64 {
	all := append([]uint64(nil), f.numbers[field]...)
	for _, b := range f.bytes[field] {
		for len(b) > 0 {
			v, n := binary.Uvarint(b)
			if n <= 0 {
				fail("no varint at %x", b)
			}
			all, b = append(all, v), b[n:]
		}
	}
	return all
}

// each is a repeated message.
func (f fields) each(field int) []fields {
	var all []fields
	for _, b := range f.bytes[field] {
		all = append(all, read(b))
	}
	return all
}

// one is a message that must be there.
func (f fields) one(field int) fields {
	all := f.each(field)
	if len(all) != 1 {
		fail("field %d is there %d times", field, len(all))
	}
	return all[0]
}
