//! What operators do with deliveries: look at dead ones and send them again, stop what was not sent.

use common::ids::{DeliveryId, Name, NotificationId};

use super::{Channel, Content, Delivery, DeliveryState, Lane, Micros};

/// A delivery that was given up.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// The delivery's id.
    pub id: DeliveryId,
    /// Its notification.
    pub notification: NotificationId,
    /// By what.
    pub channel: Channel,
    /// For whom.
    pub user: Option<Name>,
    /// Where to.
    pub address: Option<String>,
    /// Its lane.
    pub lane: Lane,
    /// Why it was given up.
    pub reason: Option<String>,
    /// Attempts that were begun.
    pub attempts: u32,
    /// What the provider said last, shortened and masked.
    pub response: Option<String>,
    /// When it was given up.
    pub died_at: Micros,
    /// When the notification was accepted.
    pub created_at: Micros,
    /// Not sent after this.
    pub expires_at: Option<Micros>,
    /// What is said to this recipient: the notification's content, or what an operator made of it.
    pub content: Content,
}

/// Which dead letters are meant. Everything that is named has to fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadFilter {
    /// The reason, exactly.
    pub reason: Option<String>,
    /// By what.
    pub channel: Option<Channel>,
    /// For whom.
    pub user: Option<Name>,
    /// Of this notification.
    pub notification: Option<NotificationId>,
    /// Given up at this time or later.
    pub from: Option<Micros>,
    /// Given up before this time.
    pub to: Option<Micros>,
    /// A part of title, text or address; upper and lower case are one.
    pub text: Option<String>,
}

/// A place in the list of dead letters, which has the newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadPlace {
    /// When the last one of the page was given up.
    pub died_at: Micros,
    /// Its id.
    pub id: DeliveryId,
}

/// Dead letters to be sent again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Redrive {
    /// Which, and how many attempts each may have from now on.
    pub deliveries: Vec<(DeliveryId, u32)>,
    /// Sent to this address from now on; only of a single one.
    pub address: Option<String>,
    /// Says this from now on; only of a single one.
    pub content: Option<Content>,
}

/// A dead letter that is on its way again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redriven {
    /// Which.
    pub id: DeliveryId,
    /// Its lane.
    pub lane: Lane,
}

/// A delivery that may be sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub id: DeliveryId,
    /// By what.
    pub channel: Channel,
    /// Its state: only what is dead goes again.
    pub state: DeliveryState,
    /// Why it is in it.
    pub reason: Option<String>,
}

/// What became of a redrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedriveResult {
    /// These go again; of the others none was dead, or its notification was cancelled, withdrawn or has expired.
    Redriven(Vec<Redriven>),
    /// The notification has another delivery by the same channel to this address.
    AddressTaken,
}

/// Where a delivery was when its notification was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelFate {
    /// It was waiting and will not be sent.
    Stopped,
    /// A worker has it: it may still go out, and is not tried again if it does not.
    OnTheWay,
    /// It had its end before.
    Ended,
}

/// What cancelling did.
#[derive(Debug, Clone)]
pub struct Cancelled {
    /// Deliveries with what became of them, in the order of their ids; the first 2,000.
    pub deliveries: Vec<(Delivery, CancelFate)>,
    /// All that were stopped, also beyond those that are listed, as in the other numbers.
    pub stopped: u64,
    /// Those that a worker has.
    pub on_the_way: u64,
    /// Those that had their end before.
    pub ended: u64,
    /// Those of them that were delivered.
    pub delivered: u64,
    /// All that are cancelled now, by whatever call.
    pub cancelled: u64,
    /// Its fan-out to a group was not over and goes no further.
    pub fan_out_stopped: bool,
    /// Steps of its chains that had not begun, and never will.
    pub steps_stopped: u64,
    /// It was not visible yet, and never will be.
    pub never_visible: bool,
}

/// What became of the replacing of a scheduled notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// It is as it was asked to be.
    Done,
    /// There is none.
    Unknown,
    /// It is visible, or is about to become so: its time has come.
    Due,
    /// It was cancelled or withdrawn.
    Cancelled,
}
