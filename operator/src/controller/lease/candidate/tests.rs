use proptest::prelude::*;

use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn held_by(holder: &str, version: &str) -> Record {
    Record {
        holder: holder.to_owned(),
        duration: seconds(15),
        transitions: 4,
        acquired: None,
        version: version.to_owned(),
    }
}

/// Reads what `answer` says, `after` seconds from the start, and says what comes next then.
fn read(candidate: &mut Candidate, start: Instant, after: u64, answer: Answer) -> Step {
    let now = start + seconds(after);
    candidate.answered(Step::Read, now, now, answer);
    candidate.next(now)
}

#[test]
fn what_is_asked_follows_from_what_is_seen() {
    let start = Instant::now();
    let new = || Candidate::new("me".to_owned(), Terms::default());
    let claim =
        |transitions| Claim { holder: "me".to_owned(), duration: seconds(15), transitions, acquired: None };
    assert_eq!(new().next(start), Step::Read, "nothing is decided unseen");
    for (what, answer, step) in [
        ("never there", Answer::Absent, Step::Create(claim(0))),
        ("given back", Answer::Seen(held_by("", "7")), Step::Update(claim(5), "7".to_owned())),
        ("mine already", Answer::Seen(held_by("me", "7")), Step::Update(claim(4), "7".to_owned())),
        ("another's", Answer::Seen(held_by("you", "7")), Step::Rest(start + seconds(2))),
        ("no answer", Answer::Failed, Step::Rest(start + seconds(2))),
    ] {
        assert_eq!(read(&mut new(), start, 0, answer), step, "{what}");
    }
}

#[test]
fn a_lease_is_taken_when_it_has_not_changed_for_its_duration() {
    let start = Instant::now();
    let mut candidate = Candidate::new("me".to_owned(), Terms::default());
    let seen = |version| Answer::Seen(held_by("you", version));
    assert!(matches!(read(&mut candidate, start, 0, seen("1")), Step::Rest(_)));
    assert!(matches!(read(&mut candidate, start, 14, seen("2")), Step::Rest(_)), "renewed meanwhile");
    assert!(matches!(read(&mut candidate, start, 28, seen("2")), Step::Rest(_)));
    assert!(matches!(read(&mut candidate, start, 29, seen("2")), Step::Update(..)));
    let mut long = held_by("you", "1");
    long.duration = seconds(60);
    let mut candidate = Candidate::new("me".to_owned(), Terms::default());
    assert!(matches!(read(&mut candidate, start, 0, Answer::Seen(long.clone())), Step::Rest(_)));
    assert!(
        matches!(read(&mut candidate, start, 59, Answer::Seen(long)), Step::Rest(_)),
        "a longer one holds"
    );
}

#[test]
fn a_lease_that_is_deleted_is_waited_for_by_those_who_knew_it() {
    let start = Instant::now();
    let mut candidate = Candidate::new("me".to_owned(), Terms::default());
    read(&mut candidate, start, 0, Answer::Seen(held_by("you", "1")));
    assert!(matches!(read(&mut candidate, start, 2, Answer::Absent), Step::Rest(_)));
    assert!(matches!(read(&mut candidate, start, 17, Answer::Absent), Step::Create(_)));
}

#[test]
fn leading_ends_at_the_deadline_after_the_last_renewal_was_sent() {
    let start = Instant::now();
    let mut candidate = Candidate::new("me".to_owned(), Terms::default());
    let step = read(&mut candidate, start, 0, Answer::Absent);
    candidate.answered(step.clone(), start, start + seconds(4), Answer::Seen(held_by("me", "1")));
    assert!(candidate.leads(start + Duration::from_millis(9_999)));
    assert!(!candidate.leads(start + seconds(10)));
    candidate.answered(step, start, start + seconds(11), Answer::Seen(held_by("me", "2")));
    assert!(!candidate.leads(start + seconds(11)), "an answer that comes too late makes nobody lead");
}

#[test]
fn somebody_elses_name_in_the_lease_ends_leading_at_once() {
    let start = Instant::now();
    let mut candidate = Candidate::new("me".to_owned(), Terms::default());
    let step = read(&mut candidate, start, 0, Answer::Absent);
    candidate.answered(step, start, start, Answer::Seen(held_by("me", "1")));
    assert!(candidate.leads(start));
    read(&mut candidate, start, 1, Answer::Seen(held_by("you", "2")));
    assert!(!candidate.leads(start + seconds(1)));
}

#[test]
fn a_leader_that_meets_a_conflict_reads_at_once() {
    let start = Instant::now();
    let mut candidate = Candidate::new("me".to_owned(), Terms::default());
    let step = read(&mut candidate, start, 0, Answer::Absent);
    candidate.answered(step, start, start, Answer::Seen(held_by("me", "1")));
    let later = start + seconds(2);
    let renewal = candidate.next(later);
    assert!(matches!(renewal, Step::Update(..)));
    candidate.answered(renewal, later, later, Answer::Conflict);
    assert_eq!(candidate.next(later), Step::Read);
    assert!(candidate.leads(later));
}

/// The API server's side of the Lease.
#[derive(Default)]
struct Server {
    lease: Option<Record>,
    writes: u64,
}

impl Server {
    fn apply(&mut self, step: &Step) -> Answer {
        let claim = match (step, &self.lease) {
            (Step::Read, Some(record)) => return Answer::Seen(record.clone()),
            (Step::Read | Step::Update(..), None) => return Answer::Absent,
            (Step::Create(claim), None) => claim,
            (Step::Update(claim, version), Some(record)) if *version == record.version => claim,
            _ => return Answer::Conflict,
        };
        self.writes += 1;
        let record = Record {
            holder: claim.holder.clone(),
            duration: claim.duration,
            transitions: claim.transitions,
            acquired: claim.acquired,
            version: self.writes.to_string(),
        };
        Answer::Seen(self.lease.insert(record).clone())
    }
}

/// A competitor with a clock of its own: where it stands, and how fast it goes in thousandths.
struct Competitor {
    candidate: Candidate,
    base: Instant,
    rate: u32,
    pending: Option<Pending>,
    /// Requests that were given up; the server takes them all the same.
    late: Vec<(u64, Step)>,
    dies_ms: u64,
}

/// A request under way; times of the simulation, in milliseconds.
struct Pending {
    step: Step,
    sent: Instant,
    arrives_ms: u64,
    answered_ms: u64,
    answer: Option<Answer>,
}

/// How the network treats one request.
type Weather = (u64, u64, bool);

impl Competitor {
    fn clock(&self, real_ms: u64) -> Instant {
        self.base + Duration::from_millis(real_ms) * self.rate / 1000
    }

    fn tick(&mut self, real_ms: u64, server: &mut Server, weather: impl FnOnce() -> Weather) {
        self.late.retain(|(at, step)| {
            let due = *at <= real_ms;
            if due {
                server.apply(step);
            }
            !due
        });
        if real_ms >= self.dies_ms {
            return;
        }
        let now = self.clock(real_ms);
        let Some(mut pending) = self.pending.take() else {
            let step = self.candidate.next(now);
            if !matches!(step, Step::Rest(_)) {
                let (there, back, lost) = weather();
                let arrives_ms = if lost { u64::MAX } else { real_ms + there };
                let answered_ms = arrives_ms.saturating_add(back);
                self.pending = Some(Pending { step, sent: now, arrives_ms, answered_ms, answer: None });
            }
            return;
        };
        if pending.arrives_ms <= real_ms && pending.answer.is_none() {
            pending.answer = Some(server.apply(&pending.step));
        }
        let given_up = now >= pending.sent + Terms::default().deadline / 2;
        if pending.answered_ms <= real_ms || given_up {
            let answer = match pending.answer {
                Some(answer) if pending.answered_ms <= real_ms => answer,
                Some(_) => Answer::Failed,
                None => {
                    self.late.push((pending.arrives_ms, pending.step.clone()));
                    Answer::Failed
                }
            };
            self.candidate.answered(pending.step, pending.sent, now, answer);
        } else {
            self.pending = Some(pending);
        }
    }
}

/// Mostly quick, sometimes slow, sometimes lost.
fn weather() -> impl Strategy<Value = Weather> {
    prop_oneof![
        6 => (0_u64..300, 0_u64..300, Just(false)),
        2 => (0_u64..9000, 0_u64..9000, Just(false)),
        1 => (Just(0_u64), Just(0_u64), Just(true)),
    ]
}

/// How one competitor's life goes.
#[derive(Debug, Clone)]
struct Life {
    clock_offset_ms: u64,
    clock_rate: u32,
    /// It is cut off from the API server from then on, for so long.
    cut_off: (u64, u64),
    dies_ms: u64,
}

fn life() -> impl Strategy<Value = Life> {
    (0_u64..1_000_000, 900_u32..1100, (5_000_u64..60_000, 0_u64..30_000), 20_000_u64..200_000).prop_map(
        |(clock_offset_ms, clock_rate, cut_off, dies_ms)| Life {
            clock_offset_ms,
            clock_rate,
            cut_off,
            dies_ms,
        },
    )
}

impl Competitor {
    fn new(index: usize, life: &Life, start: Instant, immortal: bool) -> Self {
        Self {
            candidate: Candidate::new(format!("c{index}"), Terms::default()),
            base: start + Duration::from_millis(life.clock_offset_ms),
            rate: life.clock_rate,
            pending: None,
            late: Vec::new(),
            dies_ms: if immortal { u64::MAX } else { life.dies_ms },
        }
    }

    fn leads(&self, real_ms: u64) -> bool {
        real_ms < self.dies_ms && self.candidate.leads(self.clock(real_ms))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn never_two_lead_at_a_time_and_somebody_leads_in_the_end(
        lives in prop::collection::vec(life(), 2..4),
        weather in prop::collection::vec(weather(), 1..60),
    ) {
        const ROUGH_MS: u64 = 100_000;
        const END_MS: u64 = 160_000;
        let start = Instant::now();
        let mut server = Server::default();
        let mut requests = 0_usize;
        let immortal = lives.len() - 1;
        let mut competitors: Vec<_> = lives
            .iter()
            .enumerate()
            .map(|(index, life)| Competitor::new(index, life, start, index == immortal))
            .collect();
        for real_ms in (0..END_MS).step_by(50) {
            for (competitor, life) in competitors.iter_mut().zip(&lives) {
                let (from, length) = life.cut_off;
                let cut_off = (from..from + length).contains(&real_ms);
                competitor.tick(real_ms, &mut server, || {
                    requests += 1;
                    match real_ms {
                        _ if cut_off => (0, 0, true),
                        ..ROUGH_MS => weather[requests % weather.len()],
                        _ => (20, 20, false),
                    }
                });
            }
            let leaders = competitors.iter().filter(|one| one.leads(real_ms)).count();
            prop_assert!(leaders <= 1, "two lead at {real_ms} ms");
        }
        // One that has died shortly before the end may still be waited for.
        if competitors.iter().all(|one| !(END_MS - 40_000..END_MS).contains(&one.dies_ms)) {
            prop_assert_eq!(competitors.iter().filter(|one| one.leads(END_MS)).count(), 1);
        }
    }
}
