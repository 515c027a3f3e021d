//! The engine as a worker drives it: words in, descriptors and answers out; no kernel and no Node.
#![cfg(not(loom))]

mod hosted;
mod support;

use millrace_core::Piece;
use millrace_layout::{
    FRAME_BYTES, INLINE_BYTES, INODE_SLOTS, NONE, REGION_BYTES, REQUEST_SLOTS, RING_SLOTS,
    SEGMENT_BYTES, TREE_WORKER, command, descriptor, header, kind, request, source,
};
use millrace_vault::ChunkId;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use support::{Bench, FRAMES, WORKER};

fn plain(bytes: usize, seed: u8) -> Vec<u8> {
    (0..bytes).map(|i| (i ^ (i >> 8) ^ (i >> 13)) as u8 ^ seed).collect()
}

fn frame_source(frame: u32, offset: usize, bytes: usize) -> [u32; 4] {
    [source::FRAME, frame, offset as u32, bytes as u32]
}

fn chunk_source(id: &ChunkId, offset: usize, bytes: usize) -> Vec<u32> {
    let mut words = vec![source::CHUNK, offset as u32, bytes as u32];
    words.extend(id.0.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())));
    words
}

fn settle(job: u32, in_place: bool, bytes: usize, sources: &[&[u32]]) -> Vec<u32> {
    let head = [command::SETTLE, job, u32::from(in_place), bytes as u32, sources.len() as u32];
    [&head[..], &sources.concat()].concat()
}

fn read(slot: u32, bytes: usize, urgent: bool, sources: &[&[u32]]) -> Vec<u32> {
    let (bytes, urgent, count) = (bytes as u32, u32::from(urgent), sources.len() as u32);
    [&[command::READ, slot, NONE, 0, bytes, urgent, count][..], &sources.concat()].concat()
}

fn id_of(words: &[u32; descriptor::WORDS]) -> ChunkId {
    let mut id = [0; 32];
    for (to, word) in id.chunks_exact_mut(4).zip(&words[descriptor::PAYLOAD..]) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    ChunkId(id)
}

/// Waits for the end of a settle job: its chunk, or its errno.
fn settled(bench: &Bench, words: &[u32], job: u32) -> Result<ChunkId, u32> {
    let done = bench.receive(WORKER, words);
    assert_eq!((done[descriptor::KIND], done[descriptor::A]), (kind::SETTLED, job));
    match done[descriptor::B] {
        0 => Ok(id_of(&done)),
        errno => Err(errno),
    }
}

fn counter(bench: &Bench, cell: usize) -> u64 {
    bench.engine.memory.counter(cell).load(Ordering::Relaxed)
}

#[test]
fn a_region_settled_in_place_reads_back_from_the_store() {
    let bench = Bench::new();
    let data = plain(2 * FRAME_BYTES + 50_000, 1);
    let (first, rest) = data.split_at(FRAME_BYTES);
    // The last piece starts in the middle of a frame, so the segments of the second border straddle two frames.
    let (second, third) = rest.split_at(FRAME_BYTES - 100);
    let frames =
        [bench.frame_with(0, first), bench.frame_with(100, second), bench.frame_with(64, third)];
    assert_eq!(bench.engine.free_frames(), FRAMES - 3);
    let words = settle(
        41,
        true,
        data.len(),
        &[
            &frame_source(frames[0], 0, first.len()),
            &frame_source(frames[1], 100, second.len()),
            &frame_source(frames[2], 64, third.len()),
        ],
    );
    let id = settled(&bench, &words, 41).unwrap();
    assert_eq!(id, bench.engine.vault.chunk_id_of([&data[..]]));
    assert_eq!(bench.engine.free_frames(), FRAMES, "the job has given its frames back");
    assert_eq!(counter(&bench, header::BYTES_SEALED), data.len() as u64);
    let object = bench.store.object(&id).unwrap();
    assert!(!object.windows(32).any(|window| window == &data[..32]), "plaintext was stored");

    let ranges = [(0, 1), (SEGMENT_BYTES - 1, 2), (FRAME_BYTES - 5, 20_000), (data.len() - 3, 3)];
    for (number, (offset, bytes)) in ranges.into_iter().enumerate() {
        let asked = bench.request(1000 + number as u64);
        let chunk = chunk_source(&id, offset, bytes);
        bench.execute(&read(asked.slot, bytes, number % 2 == 0, &[&chunk]));
        assert!(asked.answer() == Ok(data[offset..offset + bytes].to_vec()), "{offset}+{bytes}");
    }
}

#[test]
fn a_settle_from_a_copy_leaves_its_sources_alone() {
    let bench = Bench::new();
    let old = plain(3 * SEGMENT_BYTES, 2);
    let frame = bench.frame_with(0, &old);
    let words = settle(1, true, old.len(), &[&frame_source(frame, 0, old.len())]);
    let old_id = settled(&bench, &words, 1).unwrap();

    let new = plain(1000, 3);
    let frame = bench.frame_with(7, &new);
    let sources: [&[u32]; 3] =
        [&chunk_source(&old_id, 20_000, 5000), &[source::ZERO, 300], &frame_source(frame, 7, 1000)];
    let id = settled(&bench, &settle(2, false, 6300, &sources), 2).unwrap();
    let expected = [&old[20_000..25_000], &[0; 300], &new].concat();
    assert_eq!(id, bench.engine.vault.chunk_id_of([&expected[..]]));
    assert_eq!(bench.frame_bytes(frame, 7, 1000), new);
    assert_eq!(bench.engine.free_frames(), FRAMES - 1, "the worker still owns its frame");
    bench.execute(&[command::FREE, frame]);
    assert_eq!(bench.engine.free_frames(), FRAMES);
}

#[test]
fn what_the_store_has_is_not_stored_again() {
    let bench = Bench::new();
    let data = plain(40_000, 4);
    let mut ids = Vec::new();
    for job in 0..2 {
        let frame = bench.frame_with(0, &data);
        let words = settle(job, true, data.len(), &[&frame_source(frame, 0, data.len())]);
        ids.push(settled(&bench, &words, job).unwrap());
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(bench.store.puts.load(Ordering::SeqCst), 1);
    assert_eq!(counter(&bench, header::BYTES_DEDUPLICATED), data.len() as u64);
    assert_eq!(bench.engine.free_frames(), FRAMES);
}

#[test]
fn a_failed_put_leaves_the_plaintext_and_tells_the_errno() {
    let bench = Bench::new();
    let data = plain(FRAME_BYTES + 30_000, 5);
    let (first, second) = data.split_at(FRAME_BYTES - 1000);
    let frames = [bench.frame_with(0, first), bench.frame_with(3, second)];
    let pieces =
        [frame_source(frames[0], 0, first.len()), frame_source(frames[1], 3, second.len())];
    let words = settle(8, true, data.len(), &[&pieces[0], &pieces[1]]);
    bench.store.put_errno.store(libc::ENOSPC, Ordering::SeqCst);
    assert_eq!(settled(&bench, &words, 8), Err(libc::ENOSPC as u32));
    assert_eq!(bench.store_errno(), libc::ENOSPC as u32);
    assert!(bench.frame_bytes(frames[0], 0, first.len()) == first);
    assert!(bench.frame_bytes(frames[1], 3, second.len()) == second);
    assert_eq!(bench.engine.free_frames(), FRAMES - 2, "the worker owns the frames again");

    bench.store.put_errno.store(0, Ordering::SeqCst);
    let id = settled(&bench, &words, 8).unwrap();
    assert_eq!(id, bench.engine.vault.chunk_id_of([&data[..]]));
    assert_eq!(bench.store_errno(), 0);
    assert_eq!(bench.engine.free_frames(), FRAMES);
    assert_eq!(bench.engine.memory.header(header::FAILED).load(Ordering::SeqCst), 0);
}

#[test]
fn a_full_slab_over_a_failing_store_is_an_error_and_not_a_hang() {
    let bench = Bench::new();
    let frames: Vec<u32> = (0..FRAMES).map(|_| bench.frame_with(0, &[1])).collect();
    let words = settle(1, true, 1, &[&frame_source(frames[0], 0, 1)]);
    bench.store.put_errno.store(libc::EIO, Ordering::SeqCst);
    assert_eq!(settled(&bench, &words, 1), Err(libc::EIO as u32));
    assert_eq!(bench.engine.take_frame(), Err(libc::EIO));
}

#[test]
fn while_room_is_made_in_a_full_store_a_full_slab_is_a_reason_to_wait() {
    let bench = Bench::new();
    let frames: Vec<u32> = (0..FRAMES).map(|_| bench.frame_with(0, &[1])).collect();
    let words = settle(1, true, 1, &[&frame_source(frames[0], 0, 1)]);
    bench.store.put_errno.store(libc::ENOSPC, Ordering::SeqCst);
    assert_eq!(settled(&bench, &words, 1), Err(libc::ENOSPC as u32));
    let engine = &bench.engine;
    let making = engine.memory.header(header::MAKING_ROOM);
    making.store(1, Ordering::SeqCst);
    assert!(!engine.has_room());
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let taken = engine.take_frame();
            ended.store(true, Ordering::SeqCst);
            taken
        });
        std::thread::sleep(Duration::from_millis(50));
        assert!(!ended.load(Ordering::SeqCst), "it was told, or found a frame");
        making.store(0, Ordering::SeqCst);
        assert_eq!(waits.join().unwrap(), Err(libc::ENOSPC));
    });
    assert!(engine.has_room());
    // Another errno is not for want of room.
    engine.memory.header(header::STORE_ERRNO).store(libc::EIO as u32, Ordering::SeqCst);
    making.store(1, Ordering::SeqCst);
    assert_eq!(engine.take_frame(), Err(libc::EIO));
}

#[test]
fn the_tree_worker_hears_of_a_full_store() {
    let bench = Bench::new();
    let frame = bench.frame_with(0, &[1]);
    let words = settle(1, true, 1, &[&frame_source(frame, 0, 1)]);
    bench.store.put_errno.store(libc::ENOSPC, Ordering::SeqCst);
    assert_eq!(settled(&bench, &words, 1), Err(libc::ENOSPC as u32));
    let heard = bench.receive(TREE_WORKER, &[]);
    assert_eq!(heard[descriptor::KIND], kind::PRESSURE);
}

#[test]
fn a_damaged_or_missing_chunk_is_eio_and_reported() {
    let bench = Bench::new();
    let data = plain(2 * SEGMENT_BYTES, 6);
    let frame = bench.frame_with(0, &data);
    let words = settle(1, true, data.len(), &[&frame_source(frame, 0, data.len())]);
    let id = settled(&bench, &words, 1).unwrap();
    let object = bench.store.object(&id).unwrap();
    bench.store.damage(&id, object.len() - 1);

    let asked = bench.request(1);
    bench.execute(&read(asked.slot, 10, true, &[&chunk_source(&id, 0, 10)]));
    assert_eq!(asked.answer(), Ok(data[..10].to_vec()), "the first segment is whole");
    let missing = ChunkId([3; 32]);
    for (unique, id) in [(2, id), (3, missing)] {
        let asked = bench.request(unique);
        let chunk = chunk_source(&id, SEGMENT_BYTES, 10);
        bench.execute(&read(asked.slot, 10, true, &[&chunk]));
        assert_eq!(asked.answer(), Err(libc::EIO));
    }
    let reports = bench.reports.lock().unwrap();
    assert_eq!(reports.len(), 2, "{reports:?}");
    assert!(reports[0].contains(&id.hex()) && reports[1].contains(&missing.hex()), "{reports:?}");
}

#[test]
fn a_read_in_parts_is_answered_once_with_the_first_errno() {
    let bench = Bench::new();
    let data = plain(600, 7);
    let from = bench.frame_with(50, &data);
    for failing in [false, true] {
        let to = bench.engine.take_frame().unwrap();
        let asked = bench.request(9);
        let cell = |cell| bench.engine.memory.request(asked.slot, cell);
        cell(request::PENDING).store(2, Ordering::Relaxed);
        cell(request::FRAME).store(to, Ordering::Relaxed);
        cell(request::ANSWER_LENGTH).store(600, Ordering::Relaxed);
        let part = |offset: u32, bytes: u32| {
            let at = [command::READ, asked.slot, to, offset, bytes, 1, 1];
            [&at[..], &[source::FRAME, from, 50 + offset, bytes]].concat()
        };
        bench.execute(&part(200, 400));
        if failing {
            bench.execute(&[command::FAIL_PART, asked.slot, libc::ENOMEM as u32]);
            assert_eq!(asked.answer(), Err(libc::ENOMEM));
        } else {
            bench.execute(&part(0, 200));
            assert_eq!(asked.answer(), Ok(data.clone()));
        }
        assert_eq!(bench.engine.free_frames(), FRAMES - 1, "the request has freed its frame");
    }
    assert_eq!(bench.engine.free_requests(), REQUEST_SLOTS);
}

#[test]
fn replies_carry_an_errno_or_bytes_and_free_their_slot() {
    let bench = Bench::new();
    bench.write_out(32, b"attributes");
    let asked = bench.request(77);
    bench.execute(&[command::REPLY, asked.slot, 0, 32, 10]);
    assert_eq!(asked.answer(), Ok(b"attributes".to_vec()));
    let asked = bench.request(78);
    bench.execute(&[command::REPLY, asked.slot, libc::ENOENT as u32, 0, 0]);
    assert_eq!(asked.answer(), Err(libc::ENOENT));
    let asked = bench.request(79);
    assert_eq!(bench.engine.free_requests(), REQUEST_SLOTS - 1);
    bench.execute(&[command::RELEASE_REQUEST, asked.slot]);
    assert_eq!(bench.engine.free_requests(), REQUEST_SLOTS);
}

#[test]
fn an_inline_cell_may_be_gathered_from_itself() {
    let bench = Bench::new();
    let slot = 5;
    let frame = bench.frame_with(0, b"abcdef");
    let whole = [&[command::INLINE, slot, 0, 1][..], &frame_source(frame, 0, 6)].concat();
    bench.execute(&whole);
    let swap =
        [command::INLINE, slot, 0, 2, source::INLINE, slot, 3, 3, source::INLINE, slot, 0, 3];
    bench.execute(&swap);
    assert_eq!(bench.inline_bytes(slot, 6), b"defabc");
    bench.execute(&[command::INLINE, slot, 2, 1, source::ZERO, 2]);
    assert_eq!(bench.inline_bytes(slot, 6), b"de\0\0bc");
}

#[test]
fn a_barrier_tells_its_token_and_errno() {
    let bench = Bench::new();
    for (token, errno) in [(11, 0), (12, libc::EIO)] {
        bench.store.sync_errno.store(errno, Ordering::SeqCst);
        let synced = bench.receive(WORKER, &[command::SYNC_STORE, token]);
        assert_eq!(synced[descriptor::KIND], kind::SYNCED);
        assert_eq!((synced[descriptor::A], synced[descriptor::B]), (token, errno as u32));
    }
}

#[test]
fn the_last_part_of_a_sync_reaches_the_tree_worker() {
    let bench = Bench::new();
    let asked = bench.request(5);
    bench.engine.memory.request(asked.slot, request::PENDING).store(2, Ordering::Relaxed);
    bench.execute(&[command::SYNC_DONE, asked.slot, libc::EDQUOT as u32, 9]);
    assert_eq!(bench.turn(TREE_WORKER, &[], Duration::ZERO), 0, "one part is still missing");
    bench.execute(&[command::SYNC_DONE, asked.slot, 0, 9]);
    let commit = bench.receive(TREE_WORKER, &[]);
    assert_eq!((commit[descriptor::KIND], commit[descriptor::INODE]), (kind::COMMIT, 9));
    assert_eq!(commit[descriptor::A], asked.slot);
    let errno = bench.engine.memory.request(asked.slot, request::ERRNO).load(Ordering::Relaxed);
    assert_eq!(errno, libc::EDQUOT as u32);
}

/// An acknowledgement to the tree worker, told apart by its number.
fn push(number: u32) -> [u32; 1 + descriptor::WORDS] {
    let mut words = [0; 1 + descriptor::WORDS];
    words[0] = command::PUSH;
    words[1] = TREE_WORKER as u32;
    words[1 + descriptor::KIND] = kind::ACK;
    words[1 + descriptor::A] = number;
    words
}

#[test]
fn pushed_descriptors_arrive_in_order_even_when_the_ring_overflows() {
    const SKIPPED: u32 = 10;
    let bench = Bench::new();
    let count = RING_SLOTS as u32 + 1000;
    for number in 0..count {
        bench.execute(&push(number));
    }
    // There is room in the ring again, but what overflowed was first.
    bench.release_only(TREE_WORKER, SKIPPED as usize);
    bench.execute(&push(count));
    for number in SKIPPED..=count {
        assert_eq!(bench.receive(TREE_WORKER, &[])[descriptor::A], number);
    }
    assert_eq!(bench.turn(TREE_WORKER, &[], Duration::ZERO), 0);
}

#[test]
fn held_frames_are_free_only_after_the_last_owner() {
    let bench = Bench::new();
    let frame = bench.frame_with(0, &[1]);
    bench.execute(&[command::HOLD, frame, command::FREE, frame]);
    assert_eq!(bench.engine.free_frames(), FRAMES - 1);
    bench.execute(&[command::FREE, frame]);
    assert_eq!(bench.engine.free_frames(), FRAMES);
}

#[test]
fn commands_that_make_no_sense_are_refused() {
    let bench = Bench::new();
    let frame = bench.frame_with(0, &[1]);
    let chunk = chunk_source(&ChunkId([1; 32]), 0, 10);
    let (frames, slots) = (FRAMES as u32, REQUEST_SLOTS as u32);
    let (frame_bytes, region) = (FRAME_BYTES as u32, REGION_BYTES as u32);
    let cases: &[&[u32]] = &[
        &[0],
        &[99],
        &[command::REPLY],
        &[command::REPLY, slots, 0, 0, 0],
        &[command::REPLY, 0, 0, u32::MAX, u32::MAX],
        &[command::HOLD, frames],
        &[command::FREE, NONE],
        &[command::RELEASE_REQUEST, slots],
        &[command::PUSH, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[command::PUSH, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        // Sources that do not add up, none at all, and more than there are words for.
        &[command::SETTLE, 1, 1, 2, 1, source::FRAME, frame, 0, 1],
        &[command::SETTLE, 1, 1, 0, 0],
        &[command::SETTLE, 1, 1, 1, 2, source::FRAME, frame, 0, 1],
        &[command::SETTLE, 1, 1, 1, u32::MAX, source::FRAME, frame, 0, 1],
        &[command::SETTLE, 1, 0, region + 1, 1, source::ZERO, region + 1],
        &[command::SETTLE, 1, 1, 1, 1, 77, frame, 0, 1],
        // A frame that is none, and ranges that leave theirs.
        &[command::SETTLE, 1, 1, 1, 1, source::FRAME, frames, 0, 1],
        &[command::SETTLE, 1, 1, 2, 1, source::FRAME, frame, frame_bytes - 1, 2],
        &[command::SETTLE, 1, 1, 1, 1, source::FRAME, frame, u32::MAX, 1],
        &[command::SETTLE, 1, 0, 1, 1, source::INLINE, INODE_SLOTS as u32, 0, 1],
        &[command::SETTLE, 1, 0, 1, 1, source::INLINE, 0, INLINE_BYTES as u32, 1],
        &[command::READ, 0, frames, 0, 10, 1, 1, source::ZERO, 10],
        &[command::READ, 0, frame, frame_bytes - 1, 10, 1, 1, source::ZERO, 10],
        &[command::READ, slots, NONE, 0, 10, 1, 1, source::ZERO, 10],
        &[command::READ, 0, NONE, 0, 11, 1, 1, source::ZERO, 10],
        &[command::READ, 0, NONE, 0, 10, 1, 1, source::CHUNK, 0, 10, 1, 2, 3],
        &[command::INLINE, 0, INLINE_BYTES as u32, 1, source::ZERO, 1],
        &[command::INLINE, INODE_SLOTS as u32, 0, 1, source::ZERO, 1],
        // A chunk that is not there: an inline cell must not be filled with half of it.
        &[&[command::INLINE, 0, 0, 1], &chunk[..]].concat(),
        &[command::SYNC_STORE],
        &[command::SYNC_DONE, slots, 0, 0],
        &[command::FAIL_PART, slots, 5],
    ];
    for words in cases {
        bench.refuses(words);
    }
    assert_eq!(
        bench.engine.poll(WORKER, 0, millrace_layout::COMMAND_WORDS + 1, Duration::ZERO),
        -2
    );
    // Nothing of it was done, and the seat still works.
    assert_eq!(bench.engine.free_frames(), FRAMES - 1);
    assert_eq!(bench.store.puts.load(Ordering::SeqCst), 0);
    bench.execute(&[command::FREE, frame]);
    assert_eq!(bench.engine.free_frames(), FRAMES);
}

#[test]
fn a_stopped_engine_ends_turns_and_gives_no_frames() {
    let bench = Bench::new();
    assert_eq!(bench.turn(WORKER, &[], Duration::ZERO), 0);
    bench.engine.stop();
    assert_eq!(bench.turn(WORKER, &[], Duration::from_secs(5)), -1);
    let frames: Vec<_> = (0..FRAMES).map(|_| bench.engine.take_frame()).collect();
    assert!(frames.iter().all(Result::is_ok));
    assert_eq!(bench.engine.take_frame(), Err(libc::ENOTCONN));
}

#[test]
fn what_overflowed_into_a_ring_that_is_empty_by_now_arrives() {
    let bench = Bench::new();
    for number in 0..=RING_SLOTS as u32 {
        bench.execute(&push(number));
    }
    // The consumer had given back all of the ring before the last push reached the overflow: nothing is left to give
    // back, but something is still to come.
    bench.release_only(TREE_WORKER, RING_SLOTS);
    assert_eq!(bench.receive(TREE_WORKER, &[])[descriptor::A], RING_SLOTS as u32);
}

#[test]
fn a_worker_does_not_sleep_while_something_lies_beside_its_ring() {
    let bench = Bench::new();
    for number in 0..=RING_SLOTS as u32 {
        bench.execute(&push(number));
    }
    bench.release_only(TREE_WORKER, RING_SLOTS);
    assert!(!bench.engine.arm(TREE_WORKER));
    assert_eq!(bench.receive(TREE_WORKER, &[])[descriptor::A], RING_SLOTS as u32);
    assert_eq!(bench.turn(TREE_WORKER, &[], Duration::ZERO), 0);
    assert!(bench.engine.arm(TREE_WORKER));
}

#[test]
fn a_front_stays_behind_what_overflowed() {
    let bench = Bench::new();
    for number in 0..=RING_SLOTS as u32 {
        bench.execute(&push(number));
    }
    // The ring is empty, and the last push lies beside it.
    bench.release_only(TREE_WORKER, RING_SLOTS);
    let engine = bench.engine.clone();
    let front = std::thread::spawn(move || {
        let mut words = [0; descriptor::WORDS];
        words[descriptor::A] = NONE;
        engine.front_push(TREE_WORKER, &words);
    });
    // Long enough for a front that does not wait.
    std::thread::sleep(Duration::from_millis(50));
    for wanted in [RING_SLOTS as u32, NONE] {
        assert_eq!(bench.receive(TREE_WORKER, &[])[descriptor::A], wanted);
    }
    front.join().unwrap();
}

#[test]
fn content_in_pieces_has_the_id_of_one_chunk() {
    let bench = Bench::new();
    let data = plain(FRAME_BYTES, 7);
    let frame = bench.frame_with(0, &data);
    let words = settle(1, true, data.len(), &[&frame_source(frame, 0, data.len())]);
    let id = settled(&bench, &words, 1).unwrap();
    let engine = &bench.engine;
    assert_eq!(
        engine.content_id(&[Piece::Chunk { id, offset: 0, bytes: data.len() }]).unwrap(),
        id
    );
    let pieces = [
        Piece::Chunk { id, offset: 100_001, bytes: data.len() - 100_001 },
        Piece::Zeros(70_000),
        Piece::Chunk { id, offset: 0, bytes: 17 },
    ];
    let whole = [&data[100_001..], &vec![0; 70_000], &data[..17]].concat();
    assert_eq!(engine.content_id(&pieces).unwrap(), engine.vault.chunk_id_of([&whole[..]]));
    let beyond = Piece::Chunk { id, offset: data.len() - 1, bytes: 2 };
    assert_eq!(engine.content_id(&[beyond]), Err(libc::EIO));
    let missing = Piece::Chunk { id: ChunkId([9; 32]), offset: 0, bytes: 1 };
    assert_eq!(engine.content_id(&[missing]), Err(libc::EIO));
}

#[test]
fn a_quiesce_is_told_when_the_jobs_of_before_are_done() {
    let bench = Bench::new();
    let done = bench.receive(TREE_WORKER, &[command::QUIESCE, 7]);
    assert_eq!((done[descriptor::KIND], done[descriptor::A]), (kind::SYNCED, 7));
    assert_eq!(done[descriptor::B], 0);
    // Settles of one worker, of which the other one must see all that was submitted before.
    let data = plain(FRAME_BYTES, 3);
    let mut words = Vec::new();
    for job in 0..4 {
        let frame = bench.frame_with(0, &data);
        words.extend(settle(job, true, FRAME_BYTES, &[&frame_source(frame, 0, FRAME_BYTES)]));
    }
    words.extend([command::QUIESCE, 8]);
    let mut jobs = Vec::new();
    for turn in 0..5 {
        let done = bench.receive(WORKER, if turn == 0 { &words } else { &[] });
        if turn < 4 {
            assert_eq!(done[descriptor::KIND], kind::SETTLED, "before the quiesce is told");
            jobs.push(done[descriptor::A]);
        } else {
            assert_eq!((done[descriptor::KIND], done[descriptor::A]), (kind::SYNCED, 8));
        }
    }
    jobs.sort_unstable();
    assert_eq!(jobs, [0, 1, 2, 3]);
}

#[test]
fn a_sweep_spares_what_a_mover_stored_or_found_since_the_collection_began() {
    let bench = Bench::new();
    let store = |job, seed| {
        let frame = bench.frame_with(0, &plain(5000, seed));
        settled(&bench, &settle(job, true, 5000, &[&frame_source(frame, 0, 5000)]), job).unwrap()
    };
    let old: Vec<ChunkId> = (0..3).map(|n| store(n, n as u8)).collect();
    let kept = bench.engine.store().kept();
    let sweep = || {
        let cancelled = AtomicBool::new(false);
        let before = SystemTime::now() + Duration::from_secs(60);
        bench.engine.sweep(before, false, &cancelled).unwrap().deleted
    };
    assert!(kept.begin());
    assert_eq!(store(3, 0), old[0], "found");
    let new = store(4, 9);
    kept.keep(&old[1]);
    assert_eq!(sweep(), 1);
    let exists = |id| bench.store.object(id).is_some();
    assert!([&old[0], &old[1], &new].into_iter().all(exists));
    assert!(!exists(&old[2]));
    // What was read has an open handle, which must not outlive its chunk.
    kept.end();
    assert!(kept.begin());
    let asked = bench.request(1);
    bench.execute(&read(asked.slot, 5000, true, &[&chunk_source(&new, 0, 5000)]));
    assert_eq!(asked.answer(), Ok(plain(5000, 9)));
    assert_eq!(sweep(), 3);
    let asked = bench.request(2);
    bench.execute(&read(asked.slot, 5000, true, &[&chunk_source(&new, 0, 5000)]));
    assert_eq!(asked.answer(), Err(libc::EIO));
    kept.end();
}
