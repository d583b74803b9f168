; The thread pool and the call wrapper; `pool_ir.py` says how they work and fills in what is marked
; with a dollar sign. All memory order that matters is in @take, @pool_run and @pool_worker.

; kernel, args, n, chunks, threads, flush
%Job = type { ptr, ptr, i64, i64, i64, i64 }
; a job of libgomp: the same, then the word of chunks and how many threads have joined
%Team = type { ptr, ptr, i64, i64, i64, i64, i64, i64 }
%Host = type { i32, i32, ptr, ptr, ptr, ptr }

@pool_word = internal global i64 0, align 128
@pool_job = internal global %Job zeroinitializer, align 128
@pool_pending = internal global i32 0, align 128
@pool_waiting = internal global i32 0, align 4
@pool_sleepers = internal global i32 0, align 128
@pool_busy = internal global i32 0, align 128
@pool_started = internal global i32 0, align 4
@pool_gomp = internal global ptr null, align 8

declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_detach(i64)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i64 @syscall(i64, ...)
declare i32 @clock_gettime(i32, ptr)
declare i64 @llvm.umin.i64(i64, i64)
${declares}

; set the floating-point mode; returns the old one
define internal i64 @mode_set(i64 %flush) nounwind {${mode}
}

define internal void @mode_restore(i64 %old) nounwind {${restore}
}

define internal i64 @now() nounwind {
  %time = alloca [2 x i64], align 8
  %failed = call i32 @clock_gettime(i32 1, ptr %time)
  %seconds = load i64, ptr %time, align 8
  %rest = getelementptr i64, ptr %time, i64 1
  %nanoseconds = load i64, ptr %rest, align 8
  %scaled = mul i64 %seconds, 1000000000
  %sum = add i64 %scaled, %nanoseconds
  ret i64 %sum
}

; some 32 pauses; true while the time to spin, that began at %since, is not over
define internal i1 @spin_more(i64 %since) nounwind noinline {
entry:
  br label %again
again:
  %i = phi i32 [ 0, %entry ], [ %next, %again ]
  ${pause}
  %next = add i32 %i, 1
  %short = icmp ult i32 %next, 32
  br i1 %short, label %again, label %look
look:
  %time = call i64 @now()
  %spent = sub i64 %time, %since
  %more = icmp ult i64 %spent, ${spin_ns}
  ret i1 %more
}

; chunk %index of %chunks of [0, n): n / chunks units, one more for the first n mod chunks
define internal void @run_chunk(ptr %kernel, ptr %args, i64 %n, i64 %chunks, i64 %index,
                                i64 %worker) nounwind {
  %each = udiv i64 %n, %chunks
  %extra = urem i64 %n, %chunks
  %base = mul i64 %each, %index
  %shift = call i64 @llvm.umin.i64(i64 %index, i64 %extra)
  %lo = add i64 %base, %shift
  %longer = icmp ult i64 %index, %extra
  %one = zext i1 %longer to i64
  %length = add i64 %each, %one
  %hi = add i64 %lo, %length
  call void %kernel(ptr %args, i64 %lo, i64 %hi, i64 %worker)
  ret void
}

; take a chunk of %word while its epoch is %epoch: from the front or the back; -1: there is none
define internal i64 @take(ptr %word, i64 %epoch, i1 %front) nounwind {
entry:
  br label %look
look:
  %seen = load atomic i64, ptr %word acquire, align 8
  %its = lshr i64 %seen, 32
  %same = icmp eq i64 %its, %epoch
  br i1 %same, label %current, label %none
current:
  %shifted = lshr i64 %seen, 16
  %first = and i64 %shifted, 65535
  %end = and i64 %seen, 65535
  %some = icmp ult i64 %first, %end
  br i1 %some, label %try, label %none
try:
  %last = sub i64 %end, 1
  %index = select i1 %front, i64 %first, i64 %last
  %change = select i1 %front, i64 65536, i64 -1
  %left = add i64 %seen, %change
  %pair = cmpxchg ptr %word, i64 %seen, i64 %left acq_rel acquire
  %taken = extractvalue { i64, i1 } %pair, 1
  br i1 %taken, label %mine, label %look
mine:
  ret i64 %index
none:
  ret i64 -1
}

define internal ptr @pool_worker(ptr %number) nounwind {
entry:
  %worker = ptrtoint ptr %number to i64
  %bit = and i64 %worker, 31
  %wide = shl i64 1, %bit
  %mask = trunc i64 %wide to i32
  %futex = getelementptr i32, ptr @pool_word, i64 1
  %unused = call i64 @mode_set(i64 0)
  br label %rest
rest:
  %done = phi i64 [ 0, %entry ], [ %epoch, %work ]
  %since = call i64 @now()
  br label %spin
spin:
  %spun = load atomic i64, ptr @pool_word acquire, align 8
  %spun.epoch = lshr i64 %spun, 32
  %spun.new = icmp ne i64 %spun.epoch, %done
  br i1 %spun.new, label %look, label %pause
pause:
  %more = call i1 @spin_more(i64 %since)
  br i1 %more, label %spin, label %sleep
sleep:
  %asleep = phi i64 [ %done, %pause ], [ %epoch, %look ], [ %asleep, %sleep ]
  %entering = atomicrmw add ptr @pool_sleepers, i32 1 seq_cst
  %expected = trunc i64 %asleep to i32
  %woken = call i64 (i64, ...) @syscall(i64 ${futex}, ptr %futex, i32 137, i32 %expected, ptr null,
                                        ptr null, i32 %mask)
  %leaving = atomicrmw sub ptr @pool_sleepers, i32 1 seq_cst
  %slept = load atomic i64, ptr @pool_word acquire, align 8
  %slept.epoch = lshr i64 %slept, 32
  %slept.new = icmp ne i64 %slept.epoch, %asleep
  br i1 %slept.new, label %look, label %sleep
look:
  %epoch = phi i64 [ %spun.epoch, %spin ], [ %slept.epoch, %sleep ]
  %threads.p = getelementptr %Job, ptr @pool_job, i64 0, i32 4
  %threads = load atomic i64, ptr %threads.p monotonic, align 8
  %invited = icmp ult i64 %worker, %threads
  br i1 %invited, label %work, label %sleep
work:
  call void @pool_work(i64 %worker, i64 %epoch)
  br label %rest
}

; all chunks of one epoch that this worker gets
define internal void @pool_work(i64 %worker, i64 %epoch) nounwind noinline {
entry:
  %args.p = getelementptr %Job, ptr @pool_job, i64 0, i32 1
  %n.p = getelementptr %Job, ptr @pool_job, i64 0, i32 2
  %chunks.p = getelementptr %Job, ptr @pool_job, i64 0, i32 3
  %flush.p = getelementptr %Job, ptr @pool_job, i64 0, i32 5
  br label %next
next:
  %index = call i64 @take(ptr @pool_word, i64 %epoch, i1 false)
  %none = icmp slt i64 %index, 0
  br i1 %none, label %out, label %run
run:
  ; the chunk is ours and not done, so the job's fields cannot change now
  %kernel = load atomic ptr, ptr @pool_job monotonic, align 8
  %args = load atomic ptr, ptr %args.p monotonic, align 8
  %n = load atomic i64, ptr %n.p monotonic, align 8
  %chunks = load atomic i64, ptr %chunks.p monotonic, align 8
  %flush = load atomic i64, ptr %flush.p monotonic, align 8
  %old = call i64 @mode_set(i64 %flush)
  call void @run_chunk(ptr %kernel, ptr %args, i64 %n, i64 %chunks, i64 %index, i64 %worker)
  call void @mode_restore(i64 %old)
  %before = atomicrmw sub ptr @pool_pending, i32 1 seq_cst
  %final = icmp eq i32 %before, 1
  br i1 %final, label %last, label %next
last:
  %waiting = load atomic i32, ptr @pool_waiting seq_cst, align 4
  %sleeps = icmp ne i32 %waiting, 0
  br i1 %sleeps, label %wake, label %next
wake:
  %woken = call i64 (i64, ...) @syscall(i64 ${futex}, ptr @pool_pending, i32 129, i32 1, ptr null,
                                        ptr null, i32 0)
  br label %next
out:
  ret void
}

; have %wanted workers; returns how many there are. Their signals stay blocked: the caller's
; process handles its own.
define internal i32 @pool_start(i32 %wanted) nounwind noinline {
entry:
  %all = alloca [16 x i64], align 8
  %saved = alloca [16 x i64], align 8
  %thread = alloca i64, align 8
  %there = load i32, ptr @pool_started, align 4
  %enough = icmp sge i32 %there, %wanted
  br i1 %enough, label %ready, label %block
ready:
  ret i32 %there
block:
  store [16 x i64] [i64 -1, i64 -1, i64 -1, i64 -1, i64 -1, i64 -1, i64 -1, i64 -1, i64 -1, i64 -1,
                    i64 -1, i64 -1, i64 -1, i64 -1, i64 -1, i64 -1], ptr %all, align 8
  %masked = call i32 @pthread_sigmask(i32 2, ptr %all, ptr %saved)
  br label %more
more:
  %count = phi i32 [ %there, %block ], [ %number, %made ]
  %short = icmp slt i32 %count, %wanted
  br i1 %short, label %make, label %unblock
make:
  %number = add i32 %count, 1
  %wide = zext i32 %number to i64
  %argument = inttoptr i64 %wide to ptr
  %failed = call i32 @pthread_create(ptr %thread, ptr null, ptr @pool_worker, ptr %argument)
  %bad = icmp ne i32 %failed, 0
  br i1 %bad, label %unblock, label %made
made:
  %handle = load i64, ptr %thread, align 8
  %detached = call i32 @pthread_detach(i64 %handle)
  br label %more
unblock:
  %final = phi i32 [ %count, %more ], [ %count, %make ]
  store i32 %final, ptr @pool_started, align 4
  %unmasked = call i32 @pthread_sigmask(i32 2, ptr %saved, ptr null)
  ret i32 %final
}

define internal void @pool_run(ptr %kernel, ptr %args, i64 %n, i64 %chunks, i64 %threads,
                               i64 %flush) nounwind noinline {
entry:
  %args.p = getelementptr %Job, ptr @pool_job, i64 0, i32 1
  %n.p = getelementptr %Job, ptr @pool_job, i64 0, i32 2
  %chunks.p = getelementptr %Job, ptr @pool_job, i64 0, i32 3
  %threads.p = getelementptr %Job, ptr @pool_job, i64 0, i32 4
  %flush.p = getelementptr %Job, ptr @pool_job, i64 0, i32 5
  store atomic ptr %kernel, ptr @pool_job monotonic, align 8
  store atomic ptr %args, ptr %args.p monotonic, align 8
  store atomic i64 %n, ptr %n.p monotonic, align 8
  store atomic i64 %chunks, ptr %chunks.p monotonic, align 8
  store atomic i64 %threads, ptr %threads.p monotonic, align 8
  store atomic i64 %flush, ptr %flush.p monotonic, align 8
  %count = trunc i64 %chunks to i32
  store atomic i32 0, ptr @pool_waiting monotonic, align 4
  store atomic i32 %count, ptr @pool_pending monotonic, align 4
  %word = load atomic i64, ptr @pool_word monotonic, align 8
  %last = lshr i64 %word, 32
  %following = add i64 %last, 1
  %high = shl i64 %following, 32
  %epoch = lshr i64 %high, 32
  %open = or i64 %high, %chunks
  store atomic i64 %open, ptr @pool_word seq_cst, align 8
  %sleepers = load atomic i32, ptr @pool_sleepers seq_cst, align 4
  %any = icmp ne i32 %sleepers, 0
  br i1 %any, label %wake, label %next
wake:
  %futex = getelementptr i32, ptr @pool_word, i64 1
  %few = icmp ult i64 %threads, 32
  %powers = shl i64 1, %threads
  %below = sub i64 %powers, 1
  %members = select i1 %few, i64 %below, i64 4294967295
  %mask = trunc i64 %members to i32
  %woken = call i64 (i64, ...) @syscall(i64 ${futex}, ptr %futex, i32 138, i32 2147483647, ptr null,
                                        ptr null, i32 %mask)
  br label %next
next:
  %index = call i64 @take(ptr @pool_word, i64 %epoch, i1 true)
  %none = icmp slt i64 %index, 0
  br i1 %none, label %wait, label %run
run:
  call void @run_chunk(ptr %kernel, ptr %args, i64 %n, i64 %chunks, i64 %index, i64 0)
  %before = atomicrmw sub ptr @pool_pending, i32 1 seq_cst
  br label %next
wait:
  %since = call i64 @now()
  br label %spin
spin:
  %left = load atomic i32, ptr @pool_pending acquire, align 4
  %finished = icmp eq i32 %left, 0
  br i1 %finished, label %out, label %pause
pause:
  %more = call i1 @spin_more(i64 %since)
  br i1 %more, label %spin, label %sleep
sleep:
  store atomic i32 1, ptr @pool_waiting seq_cst, align 4
  %still = load atomic i32, ptr @pool_pending seq_cst, align 4
  %over = icmp eq i32 %still, 0
  br i1 %over, label %out, label %block
block:
  %slept = call i64 (i64, ...) @syscall(i64 ${futex}, ptr @pool_pending, i32 128, i32 %still,
                                        ptr null, ptr null, i32 0)
  br label %sleep
out:
  ret void
}

; one thread of a libgomp team
define internal void @team_member(ptr %team) nounwind {
entry:
  %args.p = getelementptr %Team, ptr %team, i64 0, i32 1
  %n.p = getelementptr %Team, ptr %team, i64 0, i32 2
  %chunks.p = getelementptr %Team, ptr %team, i64 0, i32 3
  %flush.p = getelementptr %Team, ptr %team, i64 0, i32 5
  %word.p = getelementptr %Team, ptr %team, i64 0, i32 6
  %joined.p = getelementptr %Team, ptr %team, i64 0, i32 7
  %kernel = load ptr, ptr %team, align 8
  %args = load ptr, ptr %args.p, align 8
  %n = load i64, ptr %n.p, align 8
  %chunks = load i64, ptr %chunks.p, align 8
  %flush = load i64, ptr %flush.p, align 8
  %worker = atomicrmw add ptr %joined.p, i64 1 monotonic
  %front = icmp eq i64 %worker, 0
  %old = call i64 @mode_set(i64 %flush)
  br label %next
next:
  %index = call i64 @take(ptr %word.p, i64 0, i1 %front)
  %none = icmp slt i64 %index, 0
  br i1 %none, label %out, label %run
run:
  call void @run_chunk(ptr %kernel, ptr %args, i64 %n, i64 %chunks, i64 %index, i64 %worker)
  br label %next
out:
  call void @mode_restore(i64 %old)
  ret void
}

define internal void @team_run(ptr %gomp, ptr %kernel, ptr %args, i64 %n, i64 %chunks,
                               i64 %threads, i64 %flush) nounwind noinline {
  %team = alloca %Team, align 64
  %args.p = getelementptr %Team, ptr %team, i64 0, i32 1
  %n.p = getelementptr %Team, ptr %team, i64 0, i32 2
  %chunks.p = getelementptr %Team, ptr %team, i64 0, i32 3
  %threads.p = getelementptr %Team, ptr %team, i64 0, i32 4
  %flush.p = getelementptr %Team, ptr %team, i64 0, i32 5
  %word.p = getelementptr %Team, ptr %team, i64 0, i32 6
  %joined.p = getelementptr %Team, ptr %team, i64 0, i32 7
  store ptr %kernel, ptr %team, align 8
  store ptr %args, ptr %args.p, align 8
  store i64 %n, ptr %n.p, align 8
  store i64 %chunks, ptr %chunks.p, align 8
  store i64 %threads, ptr %threads.p, align 8
  store i64 %flush, ptr %flush.p, align 8
  store i64 %chunks, ptr %word.p, align 8
  store i64 0, ptr %joined.p, align 8
  %count = trunc i64 %threads to i32
  call void %gomp(ptr @team_member, ptr %team, i32 %count, i32 0)
  ret void
}

; the `parallel` of a host table
define void @torsh_parallel(ptr %host, ptr %kernel, ptr %args, i64 %n, i64 %grain) nounwind {
entry:
  %threads.p = getelementptr %Host, ptr %host, i64 0, i32 1
  %limit = load i32, ptr %threads.p, align 4
  %alone = icmp sle i32 %limit, 1
  %tiny = icmp sle i64 %n, %grain
  %single = icmp sle i64 %n, 1
  %little = or i1 %tiny, %single
  %serial = or i1 %alone, %little
  br i1 %serial, label %here, label %lock
here:
  %nothing = icmp sle i64 %n, 0
  br i1 %nothing, label %out, label %do
do:
  call void %kernel(ptr %args, i64 0, i64 %n, i64 0)
  br label %out
lock:
  %pair = cmpxchg ptr @pool_busy, i32 0, i32 1 acquire monotonic
  %free = extractvalue { i32, i1 } %pair, 1
  br i1 %free, label %cut, label %do
cut:
  %positive = icmp sgt i64 %grain, 1
  %unit = select i1 %positive, i64 %grain, i64 1
  %before = sub i64 %n, 1
  %whole = udiv i64 %before, %unit
  %parts = add i64 %whole, 1
  %limit.wide = zext i32 %limit to i64
  %threads = call i64 @llvm.umin.i64(i64 %limit.wide, i64 %parts)
  %finer = mul i64 %threads, ${chunks_per_thread}
  %bounded = call i64 @llvm.umin.i64(i64 %finer, i64 65535)
  %chunks = call i64 @llvm.umin.i64(i64 %bounded, i64 %parts)
  %context.p = getelementptr %Host, ptr %host, i64 0, i32 5
  %context = load ptr, ptr %context.p, align 8
  %flush = load i64, ptr %context, align 8
  %gomp = load atomic ptr, ptr @pool_gomp acquire, align 8
  %own = icmp eq ptr %gomp, null
  br i1 %own, label %start, label %team
team:
  call void @team_run(ptr %gomp, ptr %kernel, ptr %args, i64 %n, i64 %chunks, i64 %threads,
                      i64 %flush)
  br label %unlock
start:
  %others = sub i64 %threads, 1
  %wanted = trunc i64 %others to i32
  %there = call i32 @pool_start(i32 %wanted)
  call void @pool_run(ptr %kernel, ptr %args, i64 %n, i64 %chunks, i64 %threads, i64 %flush)
  br label %unlock
unlock:
  store atomic i32 0, ptr @pool_busy release, align 4
  br label %out
out:
  ret void
}

; `torsh_parallel`, noting {kernel, n, start, end} in the host context's events
define void @torsh_parallel_profiled(ptr %host, ptr %kernel, ptr %args, i64 %n, i64 %grain)
    nounwind {
entry:
  %start = call i64 @now()
  call void @torsh_parallel(ptr %host, ptr %kernel, ptr %args, i64 %n, i64 %grain)
  %end = call i64 @now()
  %context.p = getelementptr %Host, ptr %host, i64 0, i32 5
  %context = load ptr, ptr %context.p, align 8
  %events.p = getelementptr i64, ptr %context, i64 1
  %capacity.p = getelementptr i64, ptr %context, i64 2
  %count.p = getelementptr i64, ptr %context, i64 3
  %count = load i64, ptr %count.p, align 8
  %capacity = load i64, ptr %capacity.p, align 8
  %more = add i64 %count, 1
  store i64 %more, ptr %count.p, align 8
  %room = icmp ult i64 %count, %capacity
  br i1 %room, label %note, label %out
note:
  %events = load ptr, ptr %events.p, align 8
  %event = getelementptr [4 x i64], ptr %events, i64 %count
  %units.p = getelementptr i64, ptr %event, i64 1
  %start.p = getelementptr i64, ptr %event, i64 2
  %end.p = getelementptr i64, ptr %event, i64 3
  store ptr %kernel, ptr %event, align 8
  store i64 %n, ptr %units.p, align 8
  store i64 %start, ptr %start.p, align 8
  store i64 %end, ptr %end.p, align 8
  br label %out
out:
  ret void
}

; call a program: %frame is { run, host, call }; -1 where the host table is of another ABI
define i32 @torsh_call(ptr %frame) nounwind {
  %host.p = getelementptr ptr, ptr %frame, i64 1
  %call.p = getelementptr ptr, ptr %frame, i64 2
  %run = load ptr, ptr %frame, align 8
  %host = load ptr, ptr %host.p, align 8
  %call = load ptr, ptr %call.p, align 8
  %abi = load i32, ptr %host, align 8
  %known = icmp eq i32 %abi, ${abi_version}
  br i1 %known, label %go, label %refuse
refuse:
  ret i32 -1
go:
  %context.p = getelementptr %Host, ptr %host, i64 0, i32 5
  %context = load ptr, ptr %context.p, align 8
  %flush = load i64, ptr %context, align 8
  %old = call i64 @mode_set(i64 %flush)
  %status = call i32 %run(ptr %host, ptr %call)
  call void @mode_restore(i64 %old)
  ret i32 %status
}

; use libgomp's threads from now on; null: our own
define void @torsh_use_gomp(ptr %gomp_parallel) nounwind {
  store atomic ptr %gomp_parallel, ptr @pool_gomp release, align 8
  ret void
}

; in a forked child: no thread but the caller's is left, whatever they held
define void @torsh_after_fork() nounwind {
  store ptr null, ptr @pool_gomp, align 8
  store i64 0, ptr @pool_word, align 8
  store i32 0, ptr @pool_pending, align 4
  store i32 0, ptr @pool_waiting, align 4
  store i32 0, ptr @pool_sleepers, align 4
  store i32 0, ptr @pool_started, align 4
  store atomic i32 0, ptr @pool_busy seq_cst, align 4
  ret void
}

; how many workers the pool has made
define i32 @torsh_pool_workers() nounwind {
  %count = load atomic i32, ptr @pool_started monotonic, align 4
  ret i32 %count
}
