// Speaks to a daos_server as dmg 2.8 does in insecure mode: with Go's gRPC, which dmg is made with, the same headers and
// request bytes, and its way to read errors. Ends with 1 at the first thing that dmg could not work with.
//
// usage: interop HOST:PORT before|after
//
// before: the server waits for its first format, which this makes. after: its engines are ready and have no pool.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func fail(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}

func check(ok bool, format string, args ...interface{}) {
	if !ok {
		fail(format, args...)
	}
}

// client makes a connection per call, as dmg does.
type client struct{ address string }

const (
	ctl  = "/ctl.CtlSvc/"
	mgmt = "/mgmt.MgmtSvc/"
	sys  = "daos_server-2.8.0"
)

func (c client) try(method string, request ...[]byte) (fields, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "x-daos-component", "admin", "x-daos-version", "2.8.0")
	connection, err := grpc.DialContext(ctx, c.address, grpc.WithInsecure(), grpc.WithBlock())
	if err != nil {
		return fields{}, err
	}
	defer connection.Close()
	var answer message
	err = connection.Invoke(ctx, method, &message{join(request...)}, &answer)
	return read(answer.bytes), err
}

func (c client) call(method string, request ...[]byte) fields {
	answer, err := c.try(method, request...)
	check(err == nil, "%s: %v", method, err)
	fmt.Printf("ok %s\n", method)
	return answer
}

// refused calls what must fail, and reads the error as dmg does: the kind from the details, never from the text.
func (c client) refused(reason, key, value, method string, request ...[]byte) *errdetails.ErrorInfo {
	_, err := c.try(method, request...)
	check(err != nil, "%s is not refused", method)
	told, ok := status.FromError(err)
	check(ok && told.Code() == codes.Internal, "%s: %v is no Internal", method, err)
	for _, detail := range told.Details() {
		info, ok := detail.(*errdetails.ErrorInfo)
		if !ok {
			continue
		}
		check(info.Reason == reason, "%s: reason %q, not %q", method, info.Reason, reason)
		if value != "" {
			check(info.Metadata[key] == value, "%s: %s of %v is not %s", method, key, info.Metadata, value)
		}
		fmt.Printf("ok %s is refused: %s\n", method, told.Message())
		return info
	}
	fail("%s: no error info in %v", method, told.Details())
	return nil
}

// settled is a ResponseState without an error.
func settled(what string, state fields) {
	check(state.number(1) == 0 && state.text(2) == "", "%s: state %d, %q", what, int64(state.number(1)), state.text(2))
}

func main() {
	check(len(os.Args) == 3, "usage: interop HOST:PORT before|after")
	c := client{os.Args[1]}
	switch os.Args[2] {
	case "before":
		before(c)
	case "after":
		after(c)
	default:
		fail("before or after")
	}
}

func systemQuery(c client) (fields, error) {
	return c.try(mgmt+"SystemQuery", text(1, sys), num(4, 65535))
}

// before: storage scan, storage format.
func before(c client) {
	scan := c.call(ctl+"StorageScan", sub(1, flag(3)), sub(2, nil))
	settled("nvme", scan.one(1).one(2))
	settled("scm", scan.one(2).one(3))
	check(scan.one(3).number(6) > 0, "no memory is told")

	// dmg formats only where this is what it hears.
	_, err := systemQuery(c)
	told, _ := status.FromError(err)
	check(told.Code() == codes.Unknown && told.Message() == "system is uninitialized (storage format required?)", "%v", err)
	leader := c.call(mgmt+"LeaderQuery", text(1, sys))
	check(leader.text(1) == "" && leader.text(2) != "", "leader %q, replicas %q", leader.text(1), leader.text(2))

	format := c.call(ctl+"StorageFormat", sub(1, nil), sub(2, nil))
	check(len(format.each(1)) > 0 && len(format.each(2)) > 0, "no results")
	for _, row := range append(format.each(1), format.each(2)...) {
		settled(row.text(1), row.one(2))
	}
}

// usable is what pools can have on a rank.
type usable struct{ scm, nvme uint64 }

// usage is what `dmg storage query usage` and `dmg pool create --size=50%` ask for.
func usage(c client) map[uint64]usable {
	scan := c.call(ctl+"StorageScan", sub(1, join(flag(1), flag(2))), sub(2, flag(1)))
	settled("nvme", scan.one(1).one(2))
	settled("scm", scan.one(2).one(3))
	all := map[uint64]usable{}
	for _, namespace := range scan.one(2).each(2) {
		check(namespace.has(6), "namespace %s has no mount", namespace.text(2))
		mount := namespace.one(6)
		total, free, left := mount.number(2), mount.number(3), mount.number(7)
		check(left > 0 && left <= free && free <= total, "mount %s: %d, %d, %d", mount.text(1), total, free, left)
		check(mount.text(5) == "ram" || mount.text(5) == "dcpm", "class %q", mount.text(5))
		all[mount.number(6)] = usable{scm: left}
	}
	for _, controller := range scan.one(1).each(1) {
		const normal = 1
		check(controller.number(9) == normal, "%s is in state %d", controller.text(3), controller.number(9))
		for _, device := range controller.each(8) {
			total, free, left := device.number(6), device.number(7), device.number(15)
			check(left <= free && free <= total, "device %s: %d, %d, %d", device.text(1), total, free, left)
			rank := all[device.number(9)]
			rank.nvme += left
			all[device.number(9)] = rank
		}
	}
	return all
}

// create is `dmg pool create LABEL`.
func create(label, uuid string, sizes ...[]byte) []byte {
	return join(text(1, uuid), text(2, sys), text(3, "root@"), text(4, "root@"),
		sub(6, join(num(1, 1), text(2, label))), join(sizes...))
}

const (
	first  = "11111111-2222-4333-8444-555555555555"
	second = "11111111-2222-4333-8444-666666666666"
)

// after: system query, pools, and what is refused.
func after(c client) {
	answer, err := systemQuery(c)
	check(err == nil, "%v", err)
	members := answer.each(1)
	check(len(members) > 0, "no members")
	for _, member := range members {
		check(member.text(5) == "joined", "rank %d is %s", member.number(3), member.text(5))
		check(strings.Contains(member.text(1), ":") && len(member.text(2)) == 36, "address %q, uuid %q", member.text(1), member.text(2))
		check(strings.HasPrefix(member.text(9), "/"), "fault domain %q", member.text(9))
		_, err := time.Parse(time.RFC3339Nano, member.text(10))
		check(err == nil, "%v", err)
	}

	// pool create --size: the tool's ratio, a size in all.
	before := usage(c)
	check(len(before) == len(members), "usage of %d ranks", len(before))
	sized := join(num(9, 160_000_000), doubles(10, 0.06, 0.94))
	made := c.call(mgmt+"PoolCreate", create("tank", first, sized))
	check(len(made.list(3)) > 0 && len(made.list(4)) == len(members), "ranks %v", made.list(4))
	check(len(made.list(5)) == 2, "tiers %v", made.list(5))
	pools := c.call(mgmt+"ListPools", text(1, sys)).each(2)
	check(len(pools) == 1 && pools[0].text(1) == first && pools[0].text(2) == "tank" && pools[0].text(4) == "Ready", "%v", pools)
	query := c.call(mgmt+"PoolQuery", text(1, sys), text(2, first))
	check(query.text(2) == first && query.text(3) == "tank" && len(query.each(8)) == 2, "%v", query)
	var properties []byte
	for _, number := range []uint64{1, 4, 5, 6, 7, 9, 11, 16, 17, 18} {
		properties = append(properties, sub(3, num(1, number))...)
	}
	got := c.call(mgmt+"PoolGetProp", text(1, sys), text(2, "tank"), properties).each(2)
	check(len(got) == 10, "%d properties", len(got))
	for _, property := range got {
		check(property.has(2) || property.has(3), "property %d has no value, which dmg cannot show", property.number(1))
	}

	// pool create --size=50%: by what each rank has left.
	left := usage(c)
	ranks, least := []uint64{}, usable{^uint64(0), ^uint64(0)}
	for rank, now := range left {
		check(now.scm < before[rank].scm && now.nvme < before[rank].nvme, "rank %d: %v after %v", rank, now, before[rank])
		ranks = append(ranks, rank)
		if now.scm < least.scm {
			least.scm = now.scm
		}
		if now.nvme < least.nvme {
			least.nvme = now.nvme
		}
	}
	half := join(packed(12, ranks...), packed(13, least.scm/2, least.nvme/2))
	c.call(mgmt+"PoolCreate", create("lake", second, half))

	// Typed errors.
	const fault, der = "proto.fault.Fault", "proto.daos.DaosStatus"
	info := c.refused(fault, "Code", "609", mgmt+"PoolCreate", create("tank", "11111111-2222-4333-8444-777777777777", sized))
	check(info.Metadata["Domain"] == "server" && info.Metadata["Description"] != "" && info.Metadata["Resolution"] != "", "%v", info.Metadata)
	c.refused(fault, "Code", "615", mgmt+"PoolCreate", text(1, first), text(2, sys), sized)
	c.refused(fault, "Code", "603", mgmt+"ListPools", text(1, "other-2.8.0"))
	c.refused(der, "Status", "-2037", mgmt+"PoolEvict", text(1, sys), text(2, "tank"))
	c.refused(der, "Status", "-1007", mgmt+"PoolCreate", create("sea", "11111111-2222-4333-8444-888888888888", packed(13, 1<<50, 0)))
	info = c.refused("proto.system.ErrPoolNotFound", "", "", mgmt+"PoolQuery", text(1, sys), text(2, "nope"))
	var pool struct{ Label string }
	err = json.Unmarshal([]byte(info.Metadata["PoolInfo"]), &pool)
	check(err == nil && pool.Label == "nope", "%v: %v", info.Metadata, err)

	// storage led identify: a result per device.
	const everyRank = 4294967295
	devices := c.call(ctl+"SmdQuery", flag(2), num(5, everyRank)).each(2)
	check(len(devices) > 0 && len(devices[0].each(2)) > 0, "no devices")
	id := devices[0].each(2)[0].text(1)
	results := c.call(ctl+"SmdManage", sub(1, join(text(1, id), num(3, 1), num(4, 1)))).one(1).each(2)
	check(len(results) == 1 && int32(results[0].number(1)) == -2037, "%v", results)

	for _, id := range []string{"tank", second} {
		c.call(mgmt+"PoolDestroy", text(1, sys), text(2, id))
	}
	none := c.call(mgmt+"ListPools", text(1, sys))
	check(len(none.each(2)) == 0, "pools are left")
	for rank, now := range usage(c) {
		check(now == before[rank], "rank %d has %v, and had %v", rank, now, before[rank])
	}
}
